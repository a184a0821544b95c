"""
Calls of the published Python client, for tests: reads one JSON object a line from standard input, makes the call, answers with one line.
"""

import json
import sys

import requests
import taskcluster
from taskcluster.download import downloadArtifactToBuf, downloadToBuf
from taskcluster.exceptions import TaskclusterAuthFailure, TaskclusterRestFailure
from taskcluster.upload import uploadFromBuf


def connect(request):
    options = {"rootUrl": request["rootUrl"], "maxRetries": 0}
    if request.get("credentials"):
        options["credentials"] = request["credentials"]
    return getattr(taskcluster, request["service"])(options)


def call(client, request):
    entry = client.funcinfo[request["method"]]
    args = request["args"]
    count = len(entry["args"]) + ("input" in entry)
    method = getattr(client, request["method"])
    if len(args) <= count:
        return method(*args)
    # with a query, everything goes by name
    names = {"params": dict(zip(entry["args"], args)), "query": args[count]}
    if "input" in entry:
        names["payload"] = args[count - 1]
    return method(**names)


def answer(request):
    what = request["what"]
    if what == "methods":
        return {name: getattr(taskcluster, name).funcinfo for name in request["services"]}
    client = connect(request)
    if what == "call":
        result = call(client, request)
        # what is no JSON: bytes, or nothing
        is_raw = isinstance(result, dict) and isinstance(result.get("response"), requests.Response)
        return None if is_raw else result
    if what == "url":
        build = client.buildSignedUrl if request["signed"] else client.buildUrl
        return build(request["method"], *request["args"])
    if what == "upload":
        uploadFromBuf(objectService=client, maxRetries=0, data=request["text"].encode(), **request["upload"])
        return None
    if what == "download":
        content, _ = downloadToBuf(objectService=client, maxRetries=0, name=request["name"])
        return bytes(content).decode()
    if what == "downloadArtifact":
        content, content_type = downloadArtifactToBuf(queueService=client, maxRetries=0, taskId=request["taskId"], name=request["name"])
        return {"text": bytes(content).decode(), "contentType": content_type}
    raise ValueError(what)


for line in sys.stdin:
    request = json.loads(line)
    try:
        reply = {"result": answer(request)}
    except (TaskclusterAuthFailure, TaskclusterRestFailure) as failure:
        body = failure.body if isinstance(failure.body, dict) else {}
        reply = {
            "refusal": {
                "statusCode": failure.status_code,
                "code": body.get("code", "UnknownError"),
                "message": body.get("message", str(failure)),
            }
        }
    except Exception as error:  # told to the test, which then fails
        reply = {"problem": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), flush=True)
