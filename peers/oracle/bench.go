package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	tokencache "k8s.io/apiserver/pkg/authentication/token/cache"
)

// How long kube-apiserver remembers an accepted token.
const successTTL = 10 * time.Second

// Rounds over all tokens that a cache is measured in: one answer is too short for the clock.
const cachedRounds = 21

// bench answers how long a verdict takes, and what it allocates; every token must be accepted.
func bench(ctx context.Context, authn authenticator.Token, q *question, out answer) error {
	cached := q.Bench == "cached"
	if cached {
		authn = tokencache.New(authn, true, successTTL, 0)
	} else if q.Bench != "uncached" {
		return fmt.Errorf("unknown kind of benchmark: %q", q.Bench)
	}
	// Fills the cache; without one, warms up.
	if err := askAll(ctx, authn, q.Tokens, nil); err != nil {
		return err
	}
	// What came before is not to be collected meanwhile.
	runtime.GC()
	var times []time.Duration
	if cached {
		for range cachedRounds {
			start := time.Now()
			if err := askAll(ctx, authn, q.Tokens, nil); err != nil {
				return err
			}
			times = append(times, time.Since(start)/time.Duration(len(q.Tokens)))
		}
	} else if err := askAll(ctx, authn, q.Tokens, &times); err != nil {
		return err
	}
	slices.Sort(times)
	out["ns"] = times[len(times)/2].Nanoseconds()

	// As testing.AllocsPerRun, which counts no bytes.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := askAll(ctx, authn, q.Tokens, nil)
	runtime.ReadMemStats(&after)
	verdicts := uint64(len(q.Tokens))
	out["allocs"] = (after.Mallocs - before.Mallocs) / verdicts
	out["bytes"] = (after.TotalAlloc - before.TotalAlloc) / verdicts
	return err
}

// askAll asks about each token, and notes the times when there is a place for them.
func askAll(ctx context.Context, authn authenticator.Token, tokens []string, times *[]time.Duration) error {
	for _, token := range tokens {
		start := time.Now()
		_, ok, err := authn.AuthenticateToken(ctx, token)
		if times != nil {
			*times = append(*times, time.Since(start))
		}
		if err != nil || !ok {
			return fmt.Errorf("a good token was refused: %v", err)
		}
	}
	return nil
}
