import torch

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
