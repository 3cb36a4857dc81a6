"""What frozen dataclasses of tensors can do row by row."""

from dataclasses import dataclass

import pytest
import torch

from trm.support.batched import Batched


@dataclass(frozen=True)
class Inner(Batched):
    sites: torch.Tensor  # (batch, 2, 3)


@dataclass(frozen=True)
class Outer(Batched):
    number: torch.Tensor  # (batch,)
    inner: Inner


def value(start: int, rows: int = 3) -> Outer:
    number = torch.arange(start, start + rows)
    return Outer(number, Inner(number[:, None, None].expand(-1, 2, 3).float()))


def test_rows_are_selected_in_every_tensor():
    for index in (slice(1, 3), torch.tensor([2, 0]), torch.tensor([True, False, True])):
        chosen = value(5)[index]
        assert chosen.number.tolist() == torch.arange(5, 8)[index].tolist()
        assert chosen.inner.sites[:, 0, 0].tolist() == chosen.number.tolist()
        assert len(chosen) == 2


def test_where_keeps_marked_rows():
    mixed = value(0).where(torch.tensor([True, False, True]), value(10))
    assert mixed.number.tolist() == [0, 11, 2]
    assert mixed.inner.sites[:, 1, 2].tolist() == [0, 11, 2]


def test_cat_joins_rows_and_keeps_the_class():
    joined = Outer.cat([value(0), value(7, rows=2)])
    assert type(joined) is Outer
    assert joined.inner.sites[:, 0, 0].tolist() == [0, 1, 2, 7, 8]


def test_tensors_are_named_and_come_back_by_name():
    named = dict(value(4).tensors())
    assert list(named) == ["number", "inner.sites"]
    again = value(0, rows=1).with_tensors(named)
    assert again.number.equal(value(4).number)
    with pytest.raises(KeyError, match="inner.sites"):
        value(0).with_tensors({"number": torch.zeros(1)})


def test_detach_cuts_every_gradient():
    inner = Inner(torch.ones(1, 2, 3, requires_grad=True) * 2)
    assert not Outer(torch.zeros(1), inner).detach().inner.sites.requires_grad
