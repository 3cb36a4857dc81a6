import pytest
import torch
import torch.distributed as dist

from trm.models.identifiers import IdentifierTable


def test_gradients_of_equal_identifiers_are_summed_before_the_sign():
    table = IdentifierTable(4, 2)
    table.weights.fill_(1.0)
    rows = table.rows(torch.tensor([1, 3, 1]))
    (rows * torch.tensor([[5.0, 1.0], [1.0, -1.0], [-2.0, -2.0]])).sum().backward()
    table.update(lr=0.1, weight_decay=0.5)
    decayed = 0.95
    expected = [[1, 1], [decayed - 0.1, decayed + 0.1], [1, 1], [decayed - 0.1, decayed + 0.1]]
    torch.testing.assert_close(table.weights, torch.tensor(expected))


def test_autocast_changes_no_sign():
    rows = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(64) % 4
    tables = []
    for enabled in (False, True):
        table = IdentifierTable(4, 4)
        (table.rows(ids) * rows).sum().backward()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            table.update(lr=0.01, weight_decay=0.1)
        tables.append(table.weights)
    assert torch.equal(*tables)


def test_only_rows_read_since_the_last_update_change():
    table = IdentifierTable(3, 2)
    table.rows(torch.tensor([0])).sum().backward()
    table.forget()
    table.rows(torch.tensor([2])).sum().backward()
    with torch.no_grad():
        table.rows(torch.tensor([1]))
    table.update(lr=1.0, weight_decay=0.0)
    table.update(lr=1.0, weight_decay=0.0)
    assert table.weights.tolist() == [[0, 0], [0, 0], [-1, -1]]


def _update_in_two_processes(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    table = IdentifierTable(4, 2)
    ids = torch.tensor([[0, 1], [1, 3]])[rank]
    weights = torch.tensor([[[1.0, 1.0], [3.0, -1.0]], [[-2.0, -2.0], [1.0, 1.0]]])[rank]
    (table.rows(ids) * weights).sum().backward()
    table.update(lr=0.5, weight_decay=0.0)
    torch.save(table.weights, f"{folder}/{rank}")
    dist.destroy_process_group()


def test_gradients_are_summed_over_processes(tmp_path):
    torch.multiprocessing.spawn(_update_in_two_processes, (str(tmp_path),), nprocs=2)
    expected = [[-0.5, -0.5], [-0.5, 0.5], [0, 0], [-0.5, -0.5]]
    for rank in range(2):
        assert torch.load(tmp_path / str(rank)).tolist() == expected


def test_an_update_touches_only_the_rows_used_and_copies_nothing():

    table = IdentifierTable(1_000_000, 64)
    ids = torch.arange(0, 1_000_000, 10_000)
    before = table.weights.data_ptr()
    table.rows(ids).sum().backward()
    table.update(lr=0.1, weight_decay=0.0)
    assert table.weights.data_ptr() == before, "updated in place, not copied"
    assert table.weights[ids].unique().tolist() == pytest.approx([-0.1])
    assert table.weights.count_nonzero() == ids.numel() * 64
