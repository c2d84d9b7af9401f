import pytest

from fv.conversion import label_lists
from fv.errors import UserError
from tests.conversion import making


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "deep er").mkdir(parents=True)
    for name in ("1.jpg", "2.jpg", "deep er/3.jpg"):
        (folder / name).write_bytes(making.jpeg())
    return folder


def listed(images, text, **options):
    path = images.parent / "list.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return label_lists.list_images(str(images), str(path), **options)


@pytest.mark.parametrize(
    "text",
    [
        "1.jpg 10\n2.jpg 11\ndeep er/3.jpg 10\n",
        "1.jpg,10\n2.jpg,11\ndeep er/3.jpg,10",
        "1.jpg\t10\r\n2.jpg\t11\r\n\r\ndeep er/3.jpg\t10\r\n",
        "\ufeffpath,label\n1.jpg,10\n2.jpg,11\ndeep er/3.jpg,10\n",
        'sex,Identity,file name,image_id\nm,10,x,"1.jpg"\nf,11,y,2.jpg\nm,10,z,deep er/3.jpg\n',
        "image\tidentity\n./1.jpg\t10\n2.jpg\t11\ndeep er//3.jpg\t10\n",
    ],
)
def test_every_form_of_a_list_gives_the_same_identities(images, text):
    catalog = listed(images, text)
    found = dict(zip(catalog.images["path"], catalog.images["identity"], strict=True))
    assert found == {"1.jpg": "10", "2.jpg": "11", "deep er/3.jpg": "10"}
    assert catalog.unusable.empty and catalog.naming is None


def test_what_list_and_folder_do_not_share_is_unusable_with_the_line(images):
    text = "1.jpg,Ann\n1.jpg,Bo\n2.jpg,\nnowhere.jpg,Ann\n1.jpg,Ann\n"
    catalog = listed(images, text)
    source = images.parent / "list.txt"
    assert catalog.images.empty
    assert dict(catalog.unusable.to_numpy()) == {
        "1.jpg": f"listed under two people: 'Ann' ({source}, line 1) and 'Bo' (line 2)",
        "2.jpg": f"no label in {source}, line 3",
        "deep er/3.jpg": f"not in {source}",
        "nowhere.jpg": f"no such image below --images, but in {source}, line 4",
    }


def test_links_out_of_the_folder_are_not_read(images):
    (images.parent / "secret.jpg").write_bytes(making.jpeg())
    (images / "4.jpg").symlink_to(images.parent / "secret.jpg")
    catalog = listed(images, "1.jpg a\n2.jpg b\n4.jpg c\ndeep er/3.jpg a\n")
    assert list(catalog.unusable["path"]) == ["4.jpg"]
    assert "leaves the images folder" in catalog.unusable["reason"][0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists nothing"),
        ("path,label\n", "lists nothing"),
        ("1.jpg,Ann,x\n", "line 1: 3 fields, and line 1 names no columns"),
        ("path,sex\n1.jpg,m\n", "names no column of a label in path, sex: rename it to label"),
        ("face,label\n1.jpg,m\n", "names no column of a path in face, label: rename it to path"),
        ("1.jpg a\n../2.jpg b\n", "line 2: '../2.jpg' leaves the images folder"),
        ("/etc/2.jpg b\n", "line 1: '/etc/2.jpg' leaves the images folder"),
        (b"\x89PNG\xff\n", "no list of paths and labels in UTF-8"),
        ('1.jpg,"a\n', "no list of paths and labels in UTF-8"),
        ("1.jpg\0 a\n", "zero byte"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_in_one_line(images, text, message):
    with pytest.raises(UserError, match=message) as error:
        listed(images, text)
    assert "\n" not in str(error.value)
