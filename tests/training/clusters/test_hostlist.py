import pytest

from fv.errors import UserError
from fv.training.clusters import hostlist


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node1", ["node1"]),
        ("node1,node2", ["node1", "node2"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("n[001,003-004],m5", ["n001", "n003", "n004", "m5"]),
        ("rack[1-2]-gpu[0-1]", ["rack1-gpu0", "rack1-gpu1", "rack2-gpu0", "rack2-gpu1"]),
        ("n[10,2]", ["n10", "n2"]),
        ("fv-[0-1].fv.ns.svc:2222", ["fv-0.fv.ns.svc:2222", "fv-1.fv.ns.svc:2222"]),
        ("10.0.0.1:12345, 10.0.0.2:12345", ["10.0.0.1:12345", "10.0.0.2:12345"]),
        ("[0-1]a", ["0a", "1a"]),
        ("[fd00::1]:2222,[fd00::2]:2222", ["[fd00::1]:2222", "[fd00::2]:2222"]),
    ],
)
def test_a_list_of_hosts_is_expanded_in_its_order(text, names):
    assert hostlist.expand(text, "LIST") == names


@pytest.mark.parametrize(
    "text",
    ["", "n[1-2", "n1-2]", "n[]", "n[a-b]", "n[3-1]", "n1,,n2", "n[1-2-3]", "n[[1]]", "n[1,]"],
)
def test_what_is_no_list_of_hosts_is_refused_in_one_line(text):
    with pytest.raises(UserError, match="LIST has '.*is no host such as"):
        hostlist.expand(text, "LIST")


def test_a_range_that_would_fill_the_memory_is_refused():
    with pytest.raises(UserError, match="LIST"):
        hostlist.expand("n[0-999999999999]", "LIST")
    with pytest.raises(UserError, match="more than 100,000 hosts"):
        hostlist.expand("n[0-999]-[0-999]", "LIST")
