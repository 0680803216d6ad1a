package sdigateway

import (
	"context"
	"errors"
	"math"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// The rate of the backlog is a promise about calls that begin, so a token is not only taken but used in time: in any
// span of s seconds the replicas begin at most drain_rate·s + burst(drain_rate) calls of the backlog. Tokens are given
// out under the lock of one row, by the clock of the database, so that it does not matter what time replicas think it
// is: in any span of length s at most drain_rate·s + bucket. A call begins within tokenLasts after its token was given
// out, or not with that token; so those of a span s have tokens of a span s + tokenLasts. (A step of the database's
// clock, forward or back, lets one more bucket go.)

// tokenLasts is how long a token may be used. A file that is late, because the machine or the connections are busy,
// takes another.
const tokenLasts = time.Second / 8

// bucket is how many tokens wait at most: an eighth of a second's, and always room for one.
func bucket(rate float64) float64 { return max(1, rate/8) }

// burst is how many calls more than its length times the rate a span of time may see.
func burst(rate float64) float64 { return bucket(rate) + rate*tokenLasts.Seconds() }

// refill is what the bucket holds at now when it held tokens at since; rate 0 has no bottom. A clock that went back
// gives nothing and takes nothing.
func refill(tokens float64, since, now time.Time, rate float64) float64 {
	if rate <= 0 {
		return math.Inf(1)
	}
	return min(bucket(rate), tokens+max(0, now.Sub(since).Seconds())*rate)
}

// stepOf is how many files one step of one drainer takes: what half a bucket holds, so that two steps are never late
// for want of tokens, and slow rates go evenly.
func stepOf(rate float64) float64 {
	if rate <= 0 {
		return drainTogether
	}
	return min(drainTogether, max(1, math.Floor(rate/16)))
}

// untilFull is how long it takes until a bucket that holds tokens has n.
func untilFull(tokens, n, rate float64) time.Duration {
	return max(time.Duration((n-tokens)/rate*float64(time.Second)), time.Millisecond)
}

// grant is the bucket under its lock, at a moment of the database's clock.
type grant struct {
	tokens float64
	at     time.Time
	until  time.Time // when its tokens are void, by this process's stopwatch; zero: never
}

// lookIntoBucket reads the bucket of a row that is locked. The stopwatch starts before the database looks at its clock,
// so that a token ends here no later than tokenLasts after the moment that it was counted at.
func (s *Service) lookIntoBucket(ctx context.Context, q *db.Queries, tokens float64, since time.Time) (g grant, err error) {
	if s.cfg.DrainRate <= 0 {
		g.tokens = math.Inf(1)
		return g, nil
	}
	g.until = time.Now().Add(tokenLasts) // a stopwatch, no time of day: the service's clock may be set
	g.at, err = q.DatabaseTime(ctx)
	if err == nil && since.After(g.at) { // the clock was set back, or an older version wrote down its own time
		since = g.at
		err = q.SetTokens(ctx, db.SetTokensParams{Name: s.cfg.Transmitter, Tokens: tokens, TokensAt: since})
	}
	g.tokens = refill(tokens, since, g.at, s.cfg.DrainRate)
	return g, err
}

// spend writes down that n tokens of a grant are given out.
func (s *Service) spend(ctx context.Context, q *db.Queries, g grant, n int) error {
	if s.cfg.DrainRate <= 0 {
		return nil
	}
	return q.SetTokens(ctx, db.SetTokensParams{Name: s.cfg.Transmitter, Tokens: g.tokens - float64(n), TokensAt: g.at})
}

// turn is the right of one file of the backlog to begin its call.
type turn struct {
	until time.Time // of the token that it has; zero: there is no rate
	last  time.Time // from then on its attempt may be another replica's
}

type turnKey struct{}

// over says that the token may not be used any more.
func (t *turn) over() bool { return !t.until.IsZero() && !time.Now().Before(t.until) }

// errTurnOver is why a call was not begun: no byte of it has left.
var errTurnOver = errors.New("the token of the backlog's rate was not used in time")

// codeTurnOver is that of a call that was not made: it waits for another token.
const codeTurnOver = "SDI_TURN_OVER"

// renew gets another token when the one that a file has is void, and waits for it, before files behind it are begun. Its fault is that there was none
// while the attempt was this process's: the file goes back to the backlog.
func (s *Service) renew(ctx context.Context, t *turn) error {
	if t.over() {
		s.late.Add(1)
		defer s.late.Add(-1)
	}
	for {
		if time.Now().After(t.last) {
			return fault.Unavailable(codeTurnOver, "the call was not made: no connection or no token of the rate was free in time")
		}
		if !t.over() {
			return nil
		}
		wait, err := s.takeToken(ctx, t)
		if err != nil {
			return err
		}
		if wait > 0 {
			time.Sleep(wait)
		}
	}
}

// takeToken gets one token, or says how long to wait for it.
func (s *Service) takeToken(ctx context.Context, t *turn) (wait time.Duration, err error) {
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		e, err := q.LockEndpoint(ctx, s.cfg.Transmitter)
		if err != nil {
			return err
		}
		g, err := s.lookIntoBucket(ctx, q, e.Tokens, e.TokensAt)
		if err != nil {
			return err
		}
		if g.tokens < 1 {
			wait = untilFull(g.tokens, 1, s.cfg.DrainRate)
			return nil
		}
		t.until = g.until
		return s.spend(ctx, q, g, 1)
	})
	return wait, err
}

// submissions is the last place that a call of RiceviFile passes before its first byte: here it begins, or does not.
// Each is a span of the file's trace that begins at the moment that the rate was kept by.
type submissions struct{ next http.RoundTripper }

// RoundTrip begins a call.
func (s submissions) RoundTrip(req *http.Request) (*http.Response, error) {
	now := time.Now()
	t, paced := req.Context().Value(turnKey{}).(*turn)
	if paced && !t.until.IsZero() && !now.Before(t.until) {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, errTurnOver
	}
	ctx, span := telemetry.Tracer().Start(req.Context(), spanSubmission, trace.WithTimestamp(now), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.Bool("sdi.backlog", paced)))
	defer span.End()
	return s.next.RoundTrip(req.WithContext(ctx))
}

// spanSubmission is the name of such a span.
const spanSubmission = "sdi submission"
