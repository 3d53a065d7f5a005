import asyncio

import pytest

from igpt.errors import ConfigError
from igpt.serve.limits import Busy, Limits, Places


def test_who_comes_when_all_places_are_taken_is_refused():
    places = Places(at_once=1, waiting=1)
    with places.ticket(), places.ticket():
        refused = places.ticket()
        with pytest.raises(Busy, match="try again"):
            refused.__enter__()
    with places.ticket() as ticket:
        assert ticket.turn.is_set()


def test_who_waits_gets_the_turn_in_order_and_knows_how_many_are_ahead():
    async def queue():
        places, order = Places(at_once=1, waiting=3), []

        async def one(number):
            with places.ticket() as ticket:
                order.append((number, places.ahead(ticket)))
                await ticket.turn.wait()
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(one(number) for number in range(4)))
        return order

    assert asyncio.run(queue()) == [(0, 0), 0, (1, 1), (2, 2), (3, 3), 1, 2, 3]


def test_who_leaves_the_queue_keeps_nobody_waiting():
    places = Places(at_once=1, waiting=2)
    with places.ticket():
        with places.ticket():
            pass
        with places.ticket() as last:
            assert places.ahead(last) == 1


def test_a_limit_that_lets_nothing_through_is_refused():
    with pytest.raises(ConfigError, match="max_samples must be at least 1, got 0"):
        Limits(max_samples=0)
