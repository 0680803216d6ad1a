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

const (
	persons   = 50
	rounds    = 2  // as many passwords as a phone shows at once, but for the one of its enrolment
	perSecond = 10 // challenges, by all persons together
)

// reportPersons has fifty persons sign with PIN and password of an app, for each type of key. From the challenge,
// with PIN and password at hand, to the signature: three calls, and no human in between.
//
// Fifty persons of whom each signs once in five seconds are ten signatures a second, more than fifty people with a
// document to read each would ever make. Then all fifty at the same moment, which is a queue and no rate.
func reportPersons(b *testing.B) {
	for name, key := range map[string]signv1.KeyType{"P-256": p256, "RSA-3072": rsa3072} {
		b.Run(name, func(b *testing.B) { reportPersonsOf(b, name, key) })
	}
}

func reportPersonsOf(b *testing.B, name string, key signv1.KeyType) {
	h := openWith(b, nil, "  authorization: {window: 15m}\n")
	people := make([]*signatory, persons)
	for i := range people {
		people[i] = h.signatoryAs(b, key, fmt.Sprintf("tenants/acme/users/%s-%d", name, i))
	}
	var steps steps
	var took []time.Duration
	var spent usage
	var lasted time.Duration
	for range rounds {
		passwords := atHand(people)
		before, began := h.usage(b), time.Now()
		took = append(took, round(b, people, passwords, &steps, func() time.Duration {
			return time.Duration(rand.Int64N(int64(persons * time.Second / perSecond))) //nolint:gosec // any moment
		})...)
		lasted += time.Since(began)
		spent = spent.plus(h.usage(b).minus(before))
	}
	what := fmt.Sprintf("signer: challenge to signature, %s, 50 persons", name)
	row(what+", offered", float64(len(took))/lasted.Seconds(), "signatures/s", "-")
	if spent.machine > 0 {
		row(what+", processors in use", 100*float64(spent.machine)/float64(spent.possible), "%", "-")
		for of, d := range map[string]time.Duration{"service and callers": spent.service, "Vault": spent.vault, "PostgreSQL": spent.postgres} {
			row(what+", processor of "+of, float64(d.Microseconds())/1e3/float64(len(took)), "ms/signature", "-")
		}
	}
	latency(what, took, "< 60")
	for i, call := range []string{"CreateChallenge", "AuthorizeChallenge", "SignHashes"} {
		latency(what+", "+call, steps.took[i], "-")
	}
	passwords := atHand(people)
	began := time.Now()
	together := round(b, people, passwords, nil, func() time.Duration { return 0 })
	latency(what+" at the same moment", together, "-")
	row(what+" at the same moment", persons/time.Since(began).Seconds(), "signatures/s", "-")
}

// steps are the times of the three calls.
type steps struct {
	mu   sync.Mutex
	took [3][]time.Duration
}

func (s *steps) add(i int, d time.Duration) {
	if s == nil {
		return
	}
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

// atHand is a password of each person, when all have one.
func atHand(people []*signatory) []string {
	passwords := make([]string, len(people))
	for i, s := range people {
		passwords[i] = s.phone.code()
	}
	return passwords
}

// round has each person sign once, after a pause of their own.
func round(b *testing.B, people []*signatory, passwords []string, steps *steps, pause func() time.Duration) []time.Duration {
	b.Helper()
	took := make([]time.Duration, len(people))
	var g sync.WaitGroup
	for i, s := range people {
		wait := pause()
		g.Go(func() {
			time.Sleep(wait)
			took[i] = sign(b, s, passwords[i], steps)
		})
	}
	g.Wait()
	return took
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
