package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
)

// session is an authenticator that discovers its issuers and fetches their keys by itself.
type session struct {
	cancel context.CancelFunc
	all    []oidc.AuthenticatorTokenWithHealthCheck
	union  authenticator.Token
}

// The one that was opened last.
var current *session

// inSession answers a question that belongs to a session.
func inSession(q *question) answer {
	out := answer{"id": q.ID}
	switch {
	case q.Session == "open":
		if current != nil {
			current.cancel()
		}
		opened, health, err := open(q)
		if err != nil {
			out["initErr"] = err.Error()
			return out
		}
		current = opened
		out["health"] = health
	case current == nil:
		out["badcase"] = "no session is open"
	case q.Session == "wait":
		for _, one := range current.all {
			if keySet := keySetOf(one); keySet != nil {
				keySet.age(time.Duration(q.Seconds) * time.Second)
			}
		}
	case q.Session == "ask":
		out["answers"] = current.ask(q.Tokens)
	default:
		out["badcase"] = fmt.Sprintf("unknown kind of session: %q", q.Session)
	}
	return out
}

// open starts the authenticators and waits until each of them has been tried once. The second answer is what is wrong with
// the first that cannot be used.
func open(q *question) (*session, string, error) {
	config, err := load(q.Config)
	if err != nil {
		return nil, "", err
	}
	if err := validate(config, q); err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithCancel(context.Background())
	opened := &session{cancel: cancel}
	var tokens []authenticator.Token
	for _, jwt := range config.JWT {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(jwt.Issuer.CertificateAuthority))
		// The client that oidc.New makes of a certificateAuthority, with another timeout.
		client := &http.Client{
			Transport: utilnet.SetTransportDefaults(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}),
			Timeout:   time.Duration(q.TimeoutMs) * time.Millisecond,
		}
		one, err := oidc.New(ctx, oidc.Options{
			JWTAuthenticator:     jwt,
			Client:               client,
			SupportedSigningAlgs: oidc.AllValidSigningAlgorithms(),
			Compiler:             compiler,
		})
		if err != nil {
			cancel()
			return nil, "", err
		}
		opened.all = append(opened.all, one)
		tokens = append(tokens, one)
	}
	opened.union = tokenunion.NewFailOnError(tokens...)
	health := ""
	for _, one := range opened.all {
		err := one.HealthCheck()
		for err != nil && strings.HasSuffix(err.Error(), "is not initialized") {
			time.Sleep(time.Millisecond)
			err = one.HealthCheck()
		}
		if err != nil && health == "" {
			health = err.Error()
		}
	}
	return opened, health, nil
}

// ask asks about all tokens at once.
func (s *session) ask(tokens []string) []answer {
	answers := make([]answer, len(tokens))
	var all sync.WaitGroup
	for i, token := range tokens {
		all.Go(func() {
			response, ok, err := s.union.AuthenticateToken(context.Background(), token)
			one := answer{"ok": ok}
			if err != nil {
				one["err"] = err.Error()
			}
			if response != nil {
				one["user"] = response.User.GetName()
			}
			answers[i] = one
		})
	}
	all.Wait()
	for _, one := range s.all {
		if keySet := keySetOf(one); keySet != nil {
			keySet.settle()
		}
	}
	return answers
}

// remoteKeySet is go-oidc's set of fetched keys, as far as it is looked at here; it and its fields are not exported.
type remoteKeySet struct {
	mu       *sync.Mutex
	expiry   *time.Time
	inflight reflect.Value
}

// keySetOf is the key set of an authenticator; nothing before its issuer has been discovered.
func keySetOf(one oidc.AuthenticatorTokenWithHealthCheck) *remoteKeySet {
	delegate := member(reflect.ValueOf(one), "delegate").Elem()
	verifier := (*atomic.Value)(member(delegate, "verifier").Addr().UnsafePointer()).Load()
	if verifier == nil {
		return nil
	}
	keySet := member(member(reflect.ValueOf(verifier), "verifier"), "keySet").Elem()
	return &remoteKeySet{
		mu:       (*sync.Mutex)(member(keySet, "mu").Addr().UnsafePointer()),
		expiry:   (*time.Time)(member(keySet, "expiry").Addr().UnsafePointer()),
		inflight: member(keySet, "inflight"),
	}
}

// age lets the keys that are at hand be so much older: their time of expiry is compared with the clock and nothing else.
func (s *remoteKeySet) age(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*s.expiry = s.expiry.Add(-by)
}

// settle waits until a fetch is over that has given its answer already: a token that comes at once would be answered by it,
// now and then, although it is a token after the fetch.
func (s *remoteKeySet) settle() {
	over := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.inflight.IsNil()
	}
	for !over() {
		time.Sleep(time.Millisecond)
	}
}

// member is a field of the struct that a pointer points to, whether it is exported or not.
func member(pointer reflect.Value, name string) reflect.Value {
	found := pointer.Elem().FieldByName(name)
	return reflect.NewAt(found.Type(), unsafe.Pointer(found.UnsafeAddr())).Elem()
}
