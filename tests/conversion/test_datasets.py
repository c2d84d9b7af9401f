import pickle

import numpy as np
import pandas as pd
import pytest

from fv.conversion.datasets import PackedStrings

STRINGS = [f"train.rec/{number}" for number in range(5000)] + ["", "ä/é\udce9.jpg"]


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame({"path": PackedStrings.pack(iter(STRINGS)), "number": range(len(STRINGS))})


def test_a_column_holds_its_strings_in_a_fraction_of_their_memory(table):
    assert table["path"].tolist() == list(table["path"].array) == STRINGS
    assert table["path"].to_numpy().dtype == object
    assert table["path"].iloc[-1] == STRINGS[-1] == table["path"].array[-1]
    assert table["path"].array.nbytes == 8 * (len(STRINGS) + 1) + sum(
        len(string.encode(errors="surrogateescape")) for string in STRINGS
    )


def test_selections_share_the_text(table):
    odd = table[table["number"] % 2 == 1]
    assert odd["path"].tolist() == STRINGS[1::2]
    assert odd.iloc[[3, 0]]["path"].tolist() == [STRINGS[7], STRINGS[1]]
    assert odd.iloc[5:8]["path"].tolist() == STRINGS[11:17:2]
    assert odd["path"].array._text is table["path"].array._text
    with pytest.raises(IndexError):
        table["path"].array[len(STRINGS)]


def test_tables_of_them_are_compared_joined_and_pickled(table):
    assert table["path"].isin(["train.rec/7", "other"]).to_numpy().nonzero()[0].tolist() == [7]
    np.testing.assert_array_equal(table["path"] == "train.rec/7", table["number"] == 7)
    both = pd.concat([table, table.iloc[:2]])
    assert both["path"].tolist() == STRINGS + STRINGS[:2]
    mixed = pd.concat([table[["path"]].iloc[:1], pd.DataFrame({"path": ["a"]})])
    assert mixed["path"].tolist() == [STRINGS[0], "a"]
    assert pickle.loads(pickle.dumps(table))["path"].tolist() == STRINGS
    assert "train.rec/0" in repr(table)
