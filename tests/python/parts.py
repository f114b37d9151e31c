"""The official Python client with a part of Portcullis: a port-forward over WebSocket channels, a log, and `kill 1`.

A JSON object with what it saw. Usage: parts.py KUBECONFIG NAMESPACE POD PORT
"""

import json
import sys

from kubernetes import client, config
from kubernetes.stream import portforward, stream


def read(socket):
    socket.setblocking(True)
    parts = []
    while part := socket.recv(4096):
        parts.append(part)
    return b"".join(parts).decode()


def main(kubeconfig, namespace, pod, port):
    config.load_kube_config(kubeconfig)
    api = client.CoreV1Api()
    forward = api.connect_get_namespaced_pod_portforward
    forwarded = portforward(forward, pod, namespace, ports=f"{port},9")
    socket = forwarded.socket(port)
    socket.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    seen = {"answer": read(socket), "error": forwarded.error(port)}
    seen["refused"] = forwarded.error(9)
    seen["log"] = api.read_namespaced_pod_log(pod, namespace)
    command = ["kill", "-9", "1"]
    execute = api.connect_get_namespaced_pod_exec
    seen["exec"] = stream(execute, pod, namespace, command=command, stderr=True, stdin=False, stdout=True, tty=False)
    print(json.dumps(seen))


main(*sys.argv[1:4], int(sys.argv[4]))
