"""`python docs/schemas.py`: docs/schemas/NAME.json, the JSON Schema of every document, from the records."""

from __future__ import annotations

import json
from pathlib import Path

from lockstep.check import schemas

FOLDER = Path(__file__).parent / "schemas"


def texts() -> dict[str, str]:
    """Every file of the folder by its name."""
    return {
        f"{name}.json": json.dumps(schemas.schema(name), indent=2, ensure_ascii=False) + "\n"
        for name in ("study", *schemas.DOCUMENTS)
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, text in texts().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
