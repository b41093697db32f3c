"""Places a call, waits for its end, saves the recording: call.py BASE_URL NUMBER TASK [RECORDING.wav]"""
import json, sys, urllib.request

base, to, task = sys.argv[1:4]

def ask(method, path, key=None, body=None):
    headers = {"Content-Type": "application/json"} | ({"X-Api-Key": key} if key else {})
    data = json.dumps(body).encode() if body else None
    return urllib.request.urlopen(urllib.request.Request(base + path, data, headers, method=method))

placed = json.load(ask("POST", "/call", body={"to": to, "task": task}))
key, call = placed["api_key"], placed
while call["lifecycle"] != "finalized":
    call = json.load(ask("GET", f"/call/{placed['id']}?wait=30", key))
for turn in call["transcript"]:
    print(f"{turn['start_ms'] / 1000:7.1f} s  {turn['role']}: {turn['text']}")
print(call["outcome"], call["task_result"]["status"], call["talk_seconds"], "s")
if len(sys.argv) > 4:
    open(sys.argv[4], "wb").write(ask("GET", f"/call/{placed['id']}/recording", key).read())
