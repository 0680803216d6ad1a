package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/fault"
)

func TestConstructorsGiveTheirKind(t *testing.T) {
	t.Parallel()
	for want, f := range map[fault.Kind]*fault.Fault{
		fault.KindInternal:        fault.Internal("X", "m %d", 1),
		fault.KindInvalid:         fault.Invalid("X", "m %d", 1),
		fault.KindUnauthenticated: fault.Unauthenticated("X", "m %d", 1),
		fault.KindDenied:          fault.Denied("X", "m %d", 1),
		fault.KindNotFound:        fault.NotFound("X", "m %d", 1),
		fault.KindConflict:        fault.Conflict("X", "m %d", 1),
		fault.KindPrecondition:    fault.Precondition("X", "m %d", 1),
		fault.KindExhausted:       fault.Exhausted(time.Second, "X", "m %d", 1),
		fault.KindUnavailable:     fault.Unavailable("X", "m %d", 1),
		fault.KindAborted:         fault.Aborted("X", "m %d", 1),
	} {
		require.Equal(t, want, f.Kind)
		require.Equal(t, "m 1", f.Message)
		require.Equal(t, want, fault.Of(fmt.Errorf("wrapped: %w", f)).Kind)
		require.NotContains(t, want.String(), "kind(")
	}
	require.Equal(t, "kind(99)", fault.Kind(99).String())
	require.Equal(t, time.Second, fault.Exhausted(time.Second, "X", "m").RetryAfter)
}

func TestPermanent(t *testing.T) {
	t.Parallel()
	cases := []struct {
		err  error
		want bool
	}{
		{nil, false},
		{io.EOF, false},
		{context.Canceled, false},
		{fault.Invalid("A", ""), true},
		{fault.NotFound("A", ""), true},
		{fault.Conflict("A", ""), true},
		{fault.Denied("A", ""), true},
		{fault.Unauthenticated("A", ""), true},
		{fault.Precondition("A", ""), true},
		{fault.Internal("A", ""), false},
		{fault.Exhausted(0, "A", ""), false},
		{fault.Unavailable("A", ""), false},
		{fault.Aborted("A", ""), false},
		{fmt.Errorf("deep: %w", fault.Invalid("A", "")), true},
	}
	for _, c := range cases {
		require.Equal(t, c.want, fault.Permanent(c.err), "%v", c.err)
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	require.Nil(t, fault.Of(nil))

	f := fault.Of(io.ErrUnexpectedEOF)
	require.Equal(t, fault.KindInternal, f.Kind)
	require.ErrorIs(t, f, io.ErrUnexpectedEOF)
	require.NotContains(t, f.Message, "EOF", "internal text must not be in the message that callers see")

	require.Equal(t, "DEADLINE_EXCEEDED", fault.Of(fmt.Errorf("x: %w", context.DeadlineExceeded)).Code)
	require.Equal(t, "CANCELED", fault.Of(context.Canceled).Code)
}

func TestIsComparesByCode(t *testing.T) {
	t.Parallel()
	sentinel := fault.Conflict("INVOICE_EXISTS", "exists")
	err := fmt.Errorf("insert: %w", fault.Conflict("INVOICE_EXISTS", "another text").With(io.EOF))
	require.ErrorIs(t, err, sentinel)
	require.ErrorIs(t, err, io.EOF)
	require.NotErrorIs(t, err, fault.Conflict("OTHER", "exists"))
}

func TestDecoratingDoesNotChangeTheOriginal(t *testing.T) {
	t.Parallel()
	base := fault.Invalid("BAD", "bad")
	one := base.WithField("a", "REQUIRED", "must be given")
	two := one.WithField("b", "RANGE", "too big")
	other := one.WithField("c", "RANGE", "too small")
	timed := base.WithRetryAfter(time.Minute)
	require.Empty(t, base.Fields)
	require.Len(t, one.Fields, 1)
	require.Equal(t, "b", two.Fields[1].Path)
	require.Equal(t, "c", other.Fields[1].Path)
	require.Zero(t, base.RetryAfter)
	require.Equal(t, time.Minute, timed.RetryAfter)
	require.Nil(t, errors.Unwrap(base))
	require.Contains(t, two.With(io.EOF).Error(), "BAD: bad [a: must be given] [b: too big]: EOF")
}
