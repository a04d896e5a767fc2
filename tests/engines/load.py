"""Sends requests from four clients while a command runs, and fails if one request fails:

    python3 load.py URL COMMAND...

Every request has a connection of its own.
"""
import subprocess
import sys
import threading
import time
import urllib.request

url, command = sys.argv[1], sys.argv[2:]
over = threading.Event()
answered, failures = [0] * 4, []


def client(number):
    while not over.is_set():
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                response.read()
            answered[number] += 1
        except Exception as error:
            failures.append(f"{time.strftime('%X')} {error}")


clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
for one in clients:
    one.start()
time.sleep(0.5)
ended = subprocess.run(command, stdout=subprocess.DEVNULL)
time.sleep(0.5)
over.set()
for one in clients:
    one.join()
print(f"{' '.join(command)}: {sum(answered)} requests answered, {len(failures)} failed", flush=True)
for failure in failures[:10]:
    print(f"  {failure}")
sys.exit(1 if failures or ended.returncode or not sum(answered) else 0)
