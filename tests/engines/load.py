"""Sends requests from four clients until stdin is closed, and fails if one of them fails: python3 load.py URL

Every request has a connection of its own.
"""
import sys
import threading
import time
import urllib.request

url = sys.argv[1]
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
            time.sleep(0.01)


clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
for one in clients:
    one.start()
sys.stdin.read()
time.sleep(0.5)
over.set()
for one in clients:
    one.join()
print(f"{sum(answered)} requests answered, {len(failures)} failed")
for failure in failures[:5]:
    print(f"  {failure}")
sys.exit(1 if failures or not sum(answered) else 0)
