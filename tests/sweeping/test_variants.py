import pytest

from fv.errors import UserError
from fv.sweeping import variants


def test_a_line_is_a_variant_and_comments_are_a_shell_s(tmp_path):
    path = tmp_path / "some.variants"
    path.write_text(
        "# a table\n\nplain:\n  cut-out.2 : --cutout=0.3 --init_weights='a b'  # a square\n"
    )
    plain, cutout = variants.read(str(path))
    assert (plain.name, plain.flags) == ("plain", ())
    assert (cutout.name, cutout.flags) == ("cut-out.2", ("--cutout=0.3", "--init_weights=a b"))
    assert cutout.origin == f"{path}, line 4"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--cutout=0.3", "does not begin with a name and a colon"),
        ("../out: --flip", "does not begin with a name and a colon"),
        ("cutout: cutout=0.3", "'cutout=0.3' is no flag"),
        ("cutout: --init_weights='a", "No closing quotation"),
        ("plain: --flip", "'plain' is there already"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path, line, said):
    path = tmp_path / "some.variants"
    path.write_text(f"# a table\nplain:\n{line}\n")
    with pytest.raises(UserError) as error:
        variants.read(str(path))
    assert str(error.value).startswith(f"{path}, line 3: ") and said in str(error.value)


def test_a_file_without_variants_is_refused(tmp_path):
    path = tmp_path / "none.variants"
    path.write_text("# nothing yet\n")
    with pytest.raises(UserError, match="holds no variant"):
        variants.read(str(path))


def test_only_takes_names_that_there_are():
    assert variants.select(["plain", "cutout"], " cutout, ") == ["cutout"]
    assert variants.select(["plain", "cutout"], "") == ["plain", "cutout"]
    with pytest.raises(UserError, match="'flip' is none of the variants plain, cutout"):
        variants.select(["plain", "cutout"], "flip")
