// client-go-peer: Kubernetes' own client library as a program that lists, watches and patches config maps and says what
// it saw, a JSON line each. README.md has the lines.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

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

// resumptions is how often the beginning of a watch is tried again, over two seconds.
const resumptions = 40

// steady asks for a watch again when the connection ends before the answer begins. A reflector would list anew then, and
// pass over what happened meanwhile: rightly, but here every change is counted.
type steady struct{ next http.RoundTripper }

func (s steady) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := s.next.RoundTrip(request)
	resumes := request.URL.Query().Get("watch") == "true" && request.URL.Query().Get("resourceVersion") != ""
	for range resumptions {
		if err == nil || !resumes || request.Context().Err() != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
		answer, err = s.next.RoundTrip(request)
	}
	return answer, err
}

type clients struct {
	namespace string
	typed     kubernetes.Interface
	dynamic   dynamic.Interface
	metadata  metadata.Interface
}

func connect(kubeconfig, namespace string) clients {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		fail("kubeconfig", err)
	}
	config.QPS, config.Burst = -1, -1
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return steady{next} })
	// As kubectl and the controllers ask: protobuf first, JSON where there is none.
	protobuf := rest.CopyConfig(config)
	protobuf.ContentType = "application/vnd.kubernetes.protobuf"
	protobuf.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	typed, err := kubernetes.NewForConfig(protobuf)
	if err != nil {
		fail("typed client", err)
	}
	untyped, err := dynamic.NewForConfig(config)
	if err != nil {
		fail("dynamic client", err)
	}
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		fail("metadata client", err)
	}
	return clients{namespace: namespace, typed: typed, dynamic: untyped, metadata: meta}
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
