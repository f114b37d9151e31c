// Kubernetes' own RBAC pieces that no real program offers on its own, for the tests to compare with.
//
//	upstream-rbac policy                what a new cluster starts with, as JSON: the data behind crates/portcullis-rbac
//	upstream-rbac aggregate KUBECONFIG  upstream's cluster role aggregation controller, until its parent ends
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/registry/rbac/rest"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "policy":
		err = policy()
	case len(os.Args) == 3 && os.Args[1] == "aggregate":
		err = aggregate(os.Args[2])
	default:
		err = fmt.Errorf("usage: upstream-rbac policy | upstream-rbac aggregate KUBECONFIG")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// policy prints what the server's post-start hook makes, in its order, with default feature gates.
func policy() error {
	return json.NewEncoder(os.Stdout).Encode(rest.PolicyData{
		ClusterRoles:        append(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()...),
		ClusterRoleBindings: append(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()...),
		Roles:               bootstrappolicy.NamespaceRoles(),
		RoleBindings:        bootstrappolicy.NamespaceRoleBindings(),
	})
}

// aggregate runs the controller. It does not outlive whoever started it, however that ends.
func aggregate(kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 1000, 1000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	factory := informers.NewSharedInformerFactory(client, 0)
	controller := clusterroleaggregation.NewClusterRoleAggregation(factory.Rbac().V1().ClusterRoles(), client.RbacV1())
	factory.Start(ctx.Done())
	parent := os.Getppid()
	go func() {
		defer cancel()
		for os.Getppid() == parent {
			time.Sleep(time.Second)
		}
	}()
	controller.Run(ctx, 5)
	return nil
}
