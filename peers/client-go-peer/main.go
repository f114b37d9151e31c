// client-go-peer: Kubernetes' own client library as a program that lists, watches and patches config maps and says what
// it saw, a JSON line each. README.md has the lines.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Objects of a page.
const page = 50

// Line is what the program prints.
type Line struct {
	Stream  string `json:"stream,omitempty"`
	Do      string `json:"do"`
	Name    string `json:"name,omitempty"`
	UID     string `json:"uid,omitempty"`
	Version string `json:"version,omitempty"`
	Text    string `json:"text,omitempty"`
}

var output sync.Mutex

func say(line Line) {
	output.Lock()
	defer output.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		os.Exit(1)
	}
}

func fail(what string, err error) {
	say(Line{Do: "failed", Text: fmt.Sprintf("%s: %v", what, err)})
	os.Exit(1)
}

type clients struct {
	namespace string
	// Patches have a connection of their own. Over HTTP/2 they would share the watches', and Go closes a connection by force
	// that a request could not be written to: the watches on it then fail with an error that reflectors do not resume from.
	patches  kubernetes.Interface
	typed    kubernetes.Interface
	dynamic  dynamic.Interface
	metadata metadata.Interface
}

func connect(kubeconfig, namespace string) clients {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		fail("kubeconfig", err)
	}
	config.QPS, config.Burst = -1, -1
	// As kubectl and the controllers ask: protobuf first, JSON where there is none.
	protobuf := rest.CopyConfig(config)
	protobuf.ContentType = "application/vnd.kubernetes.protobuf"
	protobuf.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	typed, err := kubernetes.NewForConfig(protobuf)
	if err != nil {
		fail("typed client", err)
	}
	apart := rest.CopyConfig(protobuf)
	apart.Dial = (&net.Dialer{}).DialContext
	patches, err := kubernetes.NewForConfig(apart)
	if err != nil {
		fail("client of the patches", err)
	}
	untyped, err := dynamic.NewForConfig(config)
	if err != nil {
		fail("dynamic client", err)
	}
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		fail("metadata client", err)
	}
	return clients{namespace: namespace, patches: patches, typed: typed, dynamic: untyped, metadata: meta}
}

func main() {
	if len(os.Args) != 4 {
		fail("arguments", fmt.Errorf("usage: client-go-peer KUBECONFIG NAMESPACE PATCHES"))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	all := connect(os.Args[1], os.Args[2])
	kinds := strings.Split(os.Args[3], ",")
	ends := all.watch(ctx)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		word, number, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "patch":
			count, err := strconv.Atoi(number)
			if err != nil {
				fail("patch", err)
			}
			all.patch(ctx, kinds, count)
		case "state":
			for _, state := range ends {
				state()
			}
		}
		say(Line{Do: "done", Text: lines.Text()})
	}
}
