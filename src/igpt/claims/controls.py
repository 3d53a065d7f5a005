"""Positive controls that several claims share: without them a number says nothing."""

from collections.abc import Callable

from igpt.claims.claim import Control, Measured
from igpt.claims.networks import Network


def past_plateau(
    value: Callable[[Measured], float | None], *, parts: tuple[str, ...] = ()
) -> Control[Measured]:
    """Return the control that a network has learned more than where the dark pixels are.

    `value` is how far its loss is below the plateau; None where there is none to see.
    """
    return Control(
        name="plateau",
        statement="the loss is past its plateau",
        quantity="nats per pixel under the plateau",
        at_least=0.0,
        value=value,
        parts=parts,
    )


def inner_penalties(
    edges: Callable[[Measured], int], *, parts: tuple[str, ...] = ()
) -> Control[Measured]:
    """Return the control that probes had the penalties to choose from that they need.

    `edges` counts those probes that the claim compares whose penalty is the last of its grid.
    """
    return Control(
        name="penalties",
        statement="no penalty of a compared probe lies at the edge of its grid",
        quantity="minus the penalties at an edge",
        at_least=0.0,
        value=lambda measured: float(-edges(measured)),
        parts=parts,
    )


def all_past_plateau(networks: Callable[[Measured], list[Network]]) -> Control[Measured]:
    """Return the control that the last of some networks, by what they learned, is past it.

    One that diverged is a result, and is not asked.
    """

    def value(measured: Measured) -> float | None:
        known = [network.under_plateau for network in networks(measured)]
        return min((under for under in known if under is not None), default=None)

    return past_plateau(value)
