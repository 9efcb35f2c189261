"""The NBD protocol: what goes over a connection, without a connection. All of it is pure."""

from typing import TYPE_CHECKING

from fusedm import door

if TYPE_CHECKING:
    from fusedm.nbd import replies, words
    from fusedm.nbd.handshake import Export, Receive, Send, StartTls, broken, negotiate
    from fusedm.nbd.replies import Parts
    from fusedm.nbd.requests import (
        Agreed,
        Asked,
        Exported,
        Refusal,
        check_request,
        parse_request,
    )
    from fusedm.nbd.serving import Offer, Talk, welcome
    from fusedm.nbd.transmission import Request, Transmission
    from fusedm.nbd.unflushed import Unflushed, is_change
    from fusedm.nbd.uri import SCHEMES, Address, parse_uri, with_folder
    from fusedm.nbd.words import (
        Command,
        CommandFlag,
        ExportFlag,
        ExtentFlag,
        errno_of_wire,
        wire_of_errno,
    )

__all__ = [
    "SCHEMES",
    "Address",
    "Agreed",
    "Asked",
    "Command",
    "CommandFlag",
    "Export",
    "ExportFlag",
    "Exported",
    "ExtentFlag",
    "Offer",
    "Parts",
    "Receive",
    "Refusal",
    "Request",
    "Send",
    "StartTls",
    "Talk",
    "Transmission",
    "Unflushed",
    "broken",
    "check_request",
    "errno_of_wire",
    "is_change",
    "negotiate",
    "parse_request",
    "parse_uri",
    "replies",
    "welcome",
    "wire_of_errno",
    "with_folder",
    "words",
]

__getattr__ = door(
    __name__,
    {
        "handshake": "Export Receive Send StartTls broken negotiate",
        "replies": "Parts",
        "requests": "Agreed Asked Exported Refusal check_request parse_request",
        "serving": "Offer Talk welcome",
        "transmission": "Request Transmission",
        "unflushed": "Unflushed is_change",
        "uri": "SCHEMES Address parse_uri with_folder",
        "words": "Command CommandFlag ExportFlag ExtentFlag errno_of_wire wire_of_errno",
    },
)
