"""A dialog format of your own: how a row is recognised, and how it becomes a row of nescio's format.

Recipes and `nescio data` read it too, once a package names it as an entry point:

    [project.entry-points."nescio.formats"]
    tickets = "my_package.own_format:TICKETS"
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from nescio.data.formats import FORMATS, Format
from nescio.data.read_dialogs import read_dialogs


def _read(row: dict[str, Any]) -> dict[str, Any]:
    roles = {"customer": "user", "agent": "assistant"}
    messages = [{"role": roles[who], "content": text} for who, text in row["ticket"]]
    return {"id": f"ticket-{row['number']}", "messages": messages}


TICKETS = FORMATS.register("tickets")(Format(recognises=lambda row: "ticket" in row, read=_read, turns="ticket"))


if __name__ == "__main__":
    row = {"number": 17, "ticket": [["customer", "Hi, I'm Ann Lee."], ["agent", "Hello Ann! How can I help?"]]}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tickets.jsonl"
        file.write_text(json.dumps(row) + "\n", encoding="utf-8")
        for dialog in read_dialogs(file):
            print(dialog.id, [f"{message['role']}: {message['content']}" for message in dialog.messages])
