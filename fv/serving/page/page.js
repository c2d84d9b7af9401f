"use strict";

const element = (id) => document.getElementById(id);
const sides = { a: null, b: null }; // the chosen files
const areas = Object.fromEntries(
  [...document.querySelectorAll(".side")].map((area) => [area.dataset.side, area]));
let model = null;

function headers() {
  const token = element("token").value.trim();
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function showMessage(text) {
  element("message").textContent = text;
  element("verdict").hidden = true;
}

function choose(side, file) {
  stopCamera(side);
  const area = areas[side], image = area.querySelector("img");
  if (image.src) URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(file);
  image.alt = `${area.querySelector("legend").textContent}: ${file.name}`;
  image.hidden = false;
  drawFace(side, null);
  area.querySelector(".name").textContent =
    `${file.name} (${file.size < 1e6 ? `${Math.ceil(file.size / 1e3)} kB`
      : `${(file.size / 1e6).toFixed(1)} MB`})`;
  sides[side] = file;
  element("compare").disabled = !(sides.a && sides.b);
  showMessage("");
}

function stopCamera(side) {
  const video = areas[side].querySelector("video");
  if (video.srcObject) video.srcObject.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  video.hidden = true;
  areas[side].querySelector(".camera").textContent = "Camera";
}

async function useCamera(side) {
  const area = areas[side], video = area.querySelector("video");
  if (!video.srcObject) {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
    } catch (error) {
      showMessage(`The camera cannot be used (${error.name}): choose a file. ` +
        "Browsers allow the camera on localhost and https only.");
      return;
    }
    area.querySelector("img").hidden = true;
    video.hidden = false;
    await video.play();
    area.querySelector(".camera").textContent = "Take the photograph";
    return;
  }
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
  choose(side, new File([blob], "camera.jpg", { type: "image/jpeg" }));
}

async function ask(path, options = {}) {
  let response, answer;
  try {
    response = await fetch(path, { ...options, headers: headers() });
    answer = await response.json();
  } catch {
    throw new Error("The server does not answer. Try again.");
  }
  if (response.ok) return answer;
  if (response.status === 401) {
    element("token-row").hidden = false;
    element("token").focus();
    throw new Error("This server needs a token.");
  }
  const reason = (answer.error || response.statusText)
    .replace(/^a (?=is|has|cannot|shows)/, "The first image ")
    .replace(/^b (?=is|has|cannot|shows)/, "The second image ");
  throw new Error(`${reason[0].toUpperCase()}${reason.slice(1)}.`);
}

async function compare(event) {
  event.preventDefault();
  const size = sides.a.size + sides.b.size;
  if (model && size > model.max_body_bytes - 10000) {
    showMessage(`Both images together have ${(size / 1e6).toFixed(0)} MB, ` +
      `the server takes ${(model.max_body_bytes / 1e6).toFixed(0)} MB.`);
    return;
  }
  const body = new FormData();
  body.append("a", sides.a);
  body.append("b", sides.b);
  element("compare").disabled = true;
  showMessage("");
  try {
    show(await ask("/verify", { method: "POST", body }));
    if (!model) loadModel();
  } catch (error) {
    showMessage(error.message);
  } finally {
    element("compare").disabled = false;
  }
}

function drawFace(side, face) {
  const area = areas[side], image = area.querySelector("img"), drawing = area.querySelector("svg");
  drawing.replaceChildren();
  if (!face || !face.box) return;
  drawing.setAttribute("viewBox", `0 0 ${image.naturalWidth} ${image.naturalHeight}`);
  const [box, points] = ["rect", "path"].map(
    (name) => document.createElementNS(drawing.namespaceURI, name));
  ["x", "y", "width", "height"].forEach((name, place) => box.setAttribute(name, face.box[place]));
  points.setAttribute("d", face.points.map(([x, y]) => `M${x + 0.5} ${y + 0.5}h0`).join(""));
  drawing.append(box, points);
}

function describeFace(name, face) {
  if (!face) return "";
  if (!face.box) return `${name}: no face found, its centre was taken. `;
  const [width, height] = face.box.slice(2).map(Math.round);
  return `${name}: a face of ${width} × ${height} pixels. `;
}

function show(answer) {
  const { same, similarity, threshold, probability } = answer;
  element("who").textContent = same ? "Probably the same person" : "Probably two people";
  element("who").className = same ? "same" : "different";
  const meter = element("score");
  meter.value = similarity;
  meter.low = meter.high = threshold;
  meter.optimum = 1;
  element("numbers").textContent = `Similarity ${similarity.toFixed(4)}, ` +
    `${Math.abs(similarity - threshold).toFixed(4)} ${same ? "above" : "below"} ` +
    `the threshold of ${threshold.toFixed(4)}`;
  element("probability").textContent = "Calibrated probability that both show one person: " +
    `${(100 * probability).toFixed(1)} %`;
  element("faces").textContent = describeFace("First image", answer.face_a) +
    describeFace("Second image", answer.face_b);
  drawFace("a", answer.face_a);
  drawFace("b", answer.face_b);
  element("verdict").hidden = false;
}

async function loadModel() {
  model = await ask("/model");
  element("use").textContent = model.intended_use || "";
  element("images").textContent = model.images || "";
  element("limits").replaceChildren(...model.limits.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
}

for (const [side, area] of Object.entries(areas)) {
  area.querySelector("input").addEventListener("change", (event) => {
    if (event.target.files[0]) choose(side, event.target.files[0]);
  });
  area.querySelector(".camera").addEventListener("click", () => useCamera(side));
  for (const name of ["dragover", "dragleave", "drop"]) {
    area.addEventListener(name, (event) => {
      event.preventDefault();
      area.classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files[0]) choose(side, event.dataTransfer.files[0]);
    });
  }
}
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files][0];
  const focused = document.activeElement.closest(".side");
  if (file) choose(focused ? focused.dataset.side : sides.a ? "b" : "a", file);
});
element("form").addEventListener("submit", compare);
element("token").addEventListener("change", () => loadModel().then(() => showMessage(""),
  (error) => showMessage(error.message)));
loadModel().catch((error) => showMessage(error.message));
