//go:build unix

package signer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/auth"
)

const persons = 50

// loads are how fifty persons come. A one-time password is shown for half a minute and good once, so that no fifty
// persons with an app can sign more often than once in half a minute each: that is the load of the target. The others
// say what is beyond it: once in five seconds, and all at the same moment, which is a queue and no rate.
var loads = []struct {
	name   string
	within time.Duration // in which each signs once, at any moment
	rounds int
	target string
	whole  bool // with the steps, and the processors
}{
	{"each once in 30 s", 30 * time.Second, 8, "< 60", true},
	{"each once in 5 s", 5 * time.Second, 2, "-", false},
	{"at the same moment", 0, 1, "-", false},
}

// reportPersons has fifty persons sign with PIN and password of an app, for each type of key. From the challenge,
// with PIN and password at hand, to the signature: three calls, and no human in between.
func reportPersons(b *testing.B) {
	for name, key := range map[string]signv1.KeyType{"P-256": p256, "RSA-3072": rsa3072} {
		b.Run(name, func(b *testing.B) { reportPersonsOf(b, name, key) })
	}
}

func reportPersonsOf(b *testing.B, name string, key signv1.KeyType) {
	durable(b)
	h := openWith(b, nil, "  authorization: {window: 15m}\n")
	people := make([]*signatory, persons)
	for i := range people {
		people[i] = h.signatoryAs(b, key, fmt.Sprintf("tenants/acme/users/%s-%d", name, i))
	}
	still := h.still(b)
	for _, l := range loads {
		what := fmt.Sprintf("signer: challenge to signature, %s, %d persons, %s", name, persons, l.name)
		calls := &steps{}
		var took []time.Duration
		var spent usage
		var lasted time.Duration
		for range l.rounds {
			before := h.usage(b)
			some, long := round(b, people, calls, l.within)
			took, lasted = append(took, some...), lasted+long
			spent = spent.plus(h.usage(b).minus(before))
		}
		latency(what, took, l.target)
		row(what+", came", float64(len(took))/lasted.Seconds(), "signatures/s", "-")
		if !l.whole {
			continue
		}
		for i, call := range []string{"CreateChallenge", "AuthorizeChallenge", "SignHashes"} {
			latency(what+", "+call, calls.took[i], "-")
		}
		if spent.machine > 0 {
			row(what+", processors in use", 100*float64(spent.machine)/float64(spent.possible), "%", "-")
			// What runs without anybody signing is not a signature's.
			spent = spent.minus(still.times(lasted))
			for _, p := range []struct {
				of    string
				spent time.Duration
			}{{"service and callers", spent.service}, {"Vault", spent.vault}, {"PostgreSQL", spent.postgres}} {
				row(what+", processor of "+p.of, float64(p.spent.Microseconds())/1e3/float64(len(took)), "ms/signature", "-")
			}
		}
	}
}

// atRest is what is used while nobody signs, in a second.
type atRest usage

// still looks for ten seconds at who uses processors while nobody signs.
func (h *house) still(b *testing.B) atRest {
	b.Helper()
	const looked = 10
	before := h.usage(b)
	time.Sleep(looked * time.Second)
	u := h.usage(b).minus(before)
	return atRest{u.service / looked, u.vault / looked, u.postgres / looked, u.machine / looked, u.possible / looked}
}

func (r atRest) times(d time.Duration) usage {
	of := func(each time.Duration) time.Duration { return time.Duration(float64(each) * d.Seconds()) }
	return usage{service: of(r.service), vault: of(r.vault), postgres: of(r.postgres)}
}

// steps are the times of the three calls.
type steps struct {
	mu   sync.Mutex
	took [3][]time.Duration
}

func (s *steps) add(i int, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took[i] = append(s.took[i], d)
}

// sign is one signature of a person, whose password is at hand: the clock of the phone is not in the figure.
func sign(b *testing.B, s *signatory, password string, steps *steps) time.Duration {
	b.Helper()
	_, hashes := hashesOf(1)
	ctx, began := context.Background(), time.Now()
	ch := s.challenge(b, hashes)
	made := time.Now()
	given, err := s.auth.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: password})
	require.NoError(b, err)
	authorized := time.Now()
	_, err = s.auth.SignHashes(ctx, &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: given.GetAuthorization(), DocumentSha256: hashes, RequestId: uuid.NewString()})
	require.NoError(b, err)
	steps.add(0, made.Sub(began))
	steps.add(1, authorized.Sub(made))
	steps.add(2, time.Since(authorized))
	return time.Since(began)
}

// round has each person sign once, at any moment of within, with a password that is at hand by then. It gives the time of
// each, and that of all together.
func round(b *testing.B, people []*signatory, steps *steps, within time.Duration) (took []time.Duration, lasted time.Duration) {
	b.Helper()
	passwords := make([]string, len(people))
	took = make([]time.Duration, len(people))
	var waiting, g sync.WaitGroup
	start := make(chan struct{})
	for i, s := range people {
		waiting.Add(1)
		g.Go(func() {
			if within < 10*time.Second { // they are good for that long
				passwords[i] = s.phone.code()
			}
			waiting.Done()
			<-start
			if within > 0 {
				time.Sleep(time.Duration(rand.Int64N(int64(within)))) //nolint:gosec // any moment
			}
			if passwords[i] == "" {
				passwords[i] = s.phone.code()
			}
			took[i] = sign(b, s, passwords[i], steps)
		})
	}
	waiting.Wait()
	began := time.Now()
	close(start)
	g.Wait()
	return took, time.Since(began)
}

func latency(what string, took []time.Duration, target string) {
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
	row(what+", p50", ms(took[len(took)/2]), "ms", "-")
	row(what+", p99", ms(took[(len(took)-1)*99/100]), "ms", target)
}

// signatoryAs is a person of his own: attempts are counted for each holder.
func (h *house) signatoryAs(t testing.TB, key signv1.KeyType, who string) *signatory {
	t.Helper()
	ctx := context.Background()
	s := &signatory{house: h, name: h.credential(t, company, person, key).GetName()}
	s.key = h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"credentials.write", "credentials.read", "credentials.sign"}})
	s.auth = signv1.NewAuthorizationServiceClient(h.DialKey("signer", s.key))
	_, err := s.auth.SetPin(ctx, &signv1.SetPinRequest{Name: s.name, Holder: who, NewPin: goodPIN})
	require.NoError(t, err)
	enrolled, err := s.auth.CreateOtpDevice(ctx, &signv1.CreateOtpDeviceRequest{Parent: s.name, OtpDevice: totp, Pin: goodPIN})
	require.NoError(t, err)
	s.phone, s.device = newApp(t, enrolled.GetOtpauthUri()), enrolled.GetOtpDevice().GetName()
	_, err = s.auth.ConfirmOtpDevice(ctx, &signv1.ConfirmOtpDeviceRequest{Name: s.device, Pin: goodPIN, Otp: s.phone.code()})
	require.NoError(t, err)
	return s
}
