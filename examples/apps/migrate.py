"""Prepares the folders that the API and the worker share. With MIGRATION_FAILS=N it fails with that status."""
import os
import pathlib
import sys

data = pathlib.Path(os.environ["DATA"])
if status := os.environ.get("MIGRATION_FAILS"):
    print("the database is newer than this program", file=sys.stderr)
    sys.exit(int(status))
for folder in ("jobs", "done"):
    (data / folder).mkdir(exist_ok=True)
print("the folders are ready")
