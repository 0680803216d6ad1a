package provider

import (
	"context"
	"errors"

	"ceralacca.dev/services/internal/fault"
)

// Breaker is the kit's circuit breaker: it counts errors of kind Unavailable and no others.
type Breaker interface {
	Do(ctx context.Context, fn func(ctx context.Context) error) error
}

// Guard puts a provider behind a circuit breaker. Busy and Unknown count: the provider does not answer
// as it should. UserFault and Refused do not: they are answers. While the breaker is open every call is
// Busy, and nothing leaves.
func Guard(p Provider, b Breaker) Guarded { return &guarded{p, b} }

type guarded struct {
	inner   Provider
	breaker Breaker
}

func (g *guarded) do(ctx context.Context, call func(ctx context.Context) error) error {
	var told error
	called := false
	err := g.breaker.Do(ctx, func(ctx context.Context) error {
		called = true
		told = call(ctx)
		switch OutcomeOf(told) {
		case Busy, Unknown:
			if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
				return context.Canceled // the caller went away: that says nothing of the provider
			}
			return fault.Unavailable(OutcomeOf(told).String(), "the provider did not answer as it should").With(told)
		case Done, UserFault, Refused:
		}
		return nil
	})
	if called || err == nil {
		return told
	}
	busy := Errorf(Busy, Away, "the provider does not answer; calls are held back for a while").With(err)
	busy.RetryAfter = fault.Of(err).RetryAfter
	return busy
}

func (g *guarded) Describe(ctx context.Context, c Credential) (d Description, err error) {
	err = g.do(ctx, func(ctx context.Context) error { d, err = g.inner.Describe(ctx, c); return err })
	return d, err
}

func (g *guarded) SendOTP(ctx context.Context, c Credential, device OTPDevice, hashes []Hash) (shown string, err error) {
	err = g.do(ctx, func(ctx context.Context) error { shown, err = g.inner.SendOTP(ctx, c, device, hashes); return err })
	return shown, err
}

func (g *guarded) Authorize(ctx context.Context, c Credential, hashes []Hash, f Factors) (grant Grant, err error) {
	err = g.do(ctx, func(ctx context.Context) error { grant, err = g.inner.Authorize(ctx, c, hashes, f); return err })
	return grant, err
}

func (g *guarded) SignHashes(ctx context.Context, c Credential, grant Grant, hashes []Hash) (signatures [][]byte, err error) {
	err = g.do(ctx, func(ctx context.Context) error {
		signatures, err = g.inner.SignHashes(ctx, c, grant, hashes)
		return err
	})
	return signatures, err
}

func (g *guarded) Close(ctx context.Context, c Credential, grant Grant) error {
	return g.do(ctx, func(ctx context.Context) error { return g.inner.Close(ctx, c, grant) })
}
