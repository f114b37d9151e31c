"""The official Python client as a program that lists, watches and patches config maps and says what it saw.

A JSON line each, as peers/client-go-peer/README.md describes them. Usage: client.py KUBECONFIG NAMESPACE PATCHES
"""

import json
import logging
import os
import sys
import threading
import time

import urllib3
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.informer.informer import SharedInformer

PAGE = 50
ATTEMPTS = 100

_output = threading.Lock()


def say(**line):
    with _output:
        print(json.dumps(line), flush=True)


def fail(what, error):
    say(do="failed", text=f"{what}: {error!r}")
    os._exit(1)


def about(stream, do, thing):
    meta = thing.metadata
    say(stream=stream, do=do, name=meta.name, uid=meta.uid, version=meta.resource_version)


def tell(stream, what, error):
    """Says an error: whether it may be is for the reader to judge."""
    do = "broken"
    if isinstance(error, ApiException) and error.status:
        do = "gone" if error.status == 410 else "refused"
    elif not isinstance(error, (urllib3.exceptions.HTTPError, OSError, ApiException)):
        fail(stream or what, error)
    said = error.reason if isinstance(error, ApiException) else repr(error)
    say(stream=stream, do=do, text=f"{what}: {said}")


def again(stream, what, call):
    for _ in range(ATTEMPTS):
        try:
            return call()
        except Exception as error:  # what is no failed call ends the program there
            tell(stream, what, error)
            time.sleep(0.1)
    return fail(what, "no attempt succeeded")


class Watcher:
    """Pages of a list, then a watch that goes on after each cut from the last version seen, until it is told 410."""

    stream = "watch"

    def __init__(self, core, namespace):
        self.core, self.namespace = core, namespace
        self.have, self.lock, self.ready = {}, threading.Lock(), threading.Event()

    def start(self):
        threading.Thread(target=self.run, daemon=True).start()
        if not self.ready.wait(60):
            fail(self.stream, "no list within a minute")

    def run(self):
        try:
            while True:
                version = again(self.stream, "list", self.list)
                say(stream=self.stream, do="ready")
                self.ready.set()
                self.follow(version)
        except Exception as error:  # a thread's failure must end the program
            fail(self.stream, error)

    def list(self):
        say(stream=self.stream, do="begin")
        have, token, pages = {}, None, 0
        while True:
            page = self.core.list_namespaced_config_map(self.namespace, limit=PAGE, _continue=token)
            pages += 1
            for thing in page.items:
                have[thing.metadata.name] = thing
                about(self.stream, "have", thing)
            token = page.metadata._continue
            if not token:
                break
        say(stream=self.stream, do="pages", text=str(pages))
        with self.lock:
            self.have = have
        return page.metadata.resource_version

    def follow(self, version):
        watcher = watch.Watch()
        while True:
            try:
                for event in watcher.stream(self.core.list_namespaced_config_map, self.namespace,
                                            resource_version=version, allow_watch_bookmarks=True):
                    version = watcher.resource_version
                    if event["type"] != "BOOKMARK":
                        self.take(event["type"].lower(), event["object"])
                tell(self.stream, "watch", OSError("ended"))
            except Exception as error:  # as above
                tell(self.stream, "watch", error)
                if isinstance(error, ApiException) and error.status == 410:
                    return
            time.sleep(0.1)

    def take(self, do, thing):
        with self.lock:
            if do == "deleted":
                self.have.pop(thing.metadata.name, None)
            else:
                self.have[thing.metadata.name] = thing
        about(self.stream, do, thing)

    def things(self):
        with self.lock:
            return list(self.have.values())


class Informer:
    """The client's own informer."""

    stream = "informer"

    def __init__(self, core, namespace):
        # It logs what its handler of errors is given.
        logging.getLogger("kubernetes.informer.informer").setLevel(logging.CRITICAL)
        self.informer = SharedInformer(core.list_namespaced_config_map, namespace=namespace)
        # It shows what it lists as additions and modifications, so they count as "have" until it watches.
        for kind in ("ADDED", "MODIFIED", "DELETED"):
            self.informer.add_event_handler(kind, lambda thing, kind=kind: self.take(kind.lower(), thing))
        self.informer.add_event_handler("ERROR", self.error)

    def start(self):
        self.informer.start()
        deadline = time.monotonic() + 60
        while self.informer._resource_version is None:
            if time.monotonic() > deadline:
                fail(self.stream, "no list within a minute")
            time.sleep(0.01)
        say(stream=self.stream, do="ready")

    def take(self, do, thing):
        if self.informer._resource_version is None:
            do = "vanished" if do == "deleted" else "have"
        about(self.stream, do, thing)

    def error(self, error):
        tell(self.stream, "watch", error)
        time.sleep(0.1)

    def things(self):
        return self.informer.cache.list()


class Patches:
    """Patches of the program's own objects, a kind after the other."""

    def __init__(self, core, namespace, kinds):
        self.core, self.namespace, self.kinds, self.made = core, namespace, kinds, 0

    def make(self, count):
        for _ in range(count):
            self.made += 1
            name, kind = f"client-python-{self.made % 5}", self.kinds[self.made % len(self.kinds)]
            thing = again("", f"patch {kind}", lambda: self.change(kind, name, str(self.made)))
            say(do="patched", name=name, uid=thing.metadata.uid, version=thing.metadata.resource_version)

    def change(self, kind, name, value):
        if kind == "update":
            thing = self.core.read_namespaced_config_map(name, self.namespace)
            thing.data["n"] = value
            return self.core.replace_namespaced_config_map(name, self.namespace, thing)
        body = {"data": {"n": value}}
        if kind == "json":
            body = [{"op": "replace", "path": "/data/n", "value": value}]
        content_type = {"merge": "merge-patch", "strategic": "strategic-merge-patch", "json": "json-patch"}[kind]
        return self.core.patch_namespaced_config_map(
            name, self.namespace, body, _content_type=f"application/{content_type}+json")


def main():
    kubeconfig, namespace, kinds = sys.argv[1:4]
    # Each part with a client of its own: threads of one client would share its connections.
    def core():
        settings = client.Configuration()
        # Attempts are made above, where each is told.
        settings.retries = 0
        return client.CoreV1Api(config.new_client_from_config(kubeconfig, client_configuration=settings))

    streams = [Watcher(core(), namespace), Informer(core(), namespace)]
    for stream in streams:
        stream.start()
    patches = Patches(core(), namespace, kinds.split(","))
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        if word == "patch":
            patches.make(int(number))
        elif word == "state":
            for stream in streams:
                for thing in sorted(stream.things(), key=lambda thing: thing.metadata.name):
                    about(stream.stream, "state", thing)
                say(stream=stream.stream, do="end")
        say(do="done", text=line.strip())
    os._exit(0)


if __name__ == "__main__":
    main()
