"""The bound on client connections, and who goes when it is reached."""

from app.server.connections import ClientConnections


class Connection:
    """A client connection that remembers whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def full_of(count: int) -> tuple[ClientConnections, list[Connection]]:
    connections, clients = ClientConnections(count), [Connection() for _ in range(count)]
    assert all(connections.add(client) for client in clients)
    return connections, clients


def test_the_longest_idle_connection_goes_when_one_more_comes() -> None:
    connections, clients = full_of(3)
    connections.on_busy(clients[0])
    connections.on_idle(clients[0])  # idle again, but not for long
    assert connections.add(Connection())
    assert [client.closed for client in clients] == [False, True, False]
    assert len(connections) == 3


def test_a_busy_connection_never_goes_for_another() -> None:
    connections, clients = full_of(2)
    for client in clients:
        connections.on_busy(client)
    assert not connections.add(Connection())
    assert not any(client.closed for client in clients)


def test_a_connection_whose_client_does_not_read_goes_when_none_is_idle() -> None:
    connections, clients = full_of(3)
    for client in clients:
        connections.on_busy(client)
    connections.on_stuck(clients[2])
    connections.on_stuck(clients[1])
    connections.on_reading(clients[2])
    assert connections.add(Connection())
    assert [client.closed for client in clients] == [False, True, False]


def test_an_idle_connection_goes_before_a_stuck_one() -> None:
    connections, clients = full_of(2)
    connections.on_busy(clients[0])
    connections.on_stuck(clients[0])
    assert connections.add(Connection())
    assert [client.closed for client in clients] == [False, True]


def test_a_closed_connection_makes_room_and_is_not_closed_again() -> None:
    connections, clients = full_of(1)
    connections.remove(clients[0])
    connections.on_idle(clients[0])
    connections.on_stuck(clients[0])
    assert connections.add(Connection())
    assert not clients[0].closed
    assert len(connections) == 1
