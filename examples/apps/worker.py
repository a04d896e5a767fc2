"""Takes jobs out of a folder and writes their results into another. At SIGTERM it finishes the job in hand."""
import os
import pathlib
import signal
import time

data = pathlib.Path(os.environ["DATA"])
is_running = True


def stop(*_):
    global is_running
    is_running = False


signal.signal(signal.SIGTERM, stop)
print("waiting for jobs")
while is_running:
    for job in (data / "jobs").glob("*.job"):
        result = job.read_text().upper()
        partial = data / "done" / (job.stem + ".partial")
        partial.write_text(result)
        partial.rename(data / "done" / job.stem)
        job.unlink()
        print("done:", job.stem)
    time.sleep(0.05)
print("no more jobs are taken")
