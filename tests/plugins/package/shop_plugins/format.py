"""A dialog format: tickets of a help desk."""

from nescio.data.formats import Format


def _read(row):
    roles = {"customer": "user", "agent": "assistant"}
    return {"messages": [{"role": roles[who], "content": text} for who, text in row["ticket"]]}


TICKETS = Format(recognises=lambda row: "ticket" in row, read=_read, turns="ticket")
