//go:build soak

package chaos

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/tests/harness"
)

// postBoundaries are the states of a message to SdI in the order in which they come; one that is over when it is
// looked for has been reached.
var postBoundaries = []string{"REQUESTED", "QUEUED", "SUBMITTED", "ACCEPTED", "DELIVERED"}

// TestCertifiedMailKilledAtEachBoundary kills both gateways at every boundary of the way of an invoice by certified
// mail. SdI's own count is the judge: each document once, and no message to an address that it did not assign.
func TestCertifiedMailKilledAtEachBoundary(t *testing.T) {
	t.Parallel()
	s := newScene(t, harness.ManyProcesses)
	require.NoError(t, s.p.TrustCertifiedMail(s.ctx))
	box, err := s.c.CertifiedMailbox(s.ctx)
	require.NoError(t, err)
	api, err := s.c.Post()
	require.NoError(t, err)
	_, err = api.SetPecChannel(s.c.Ctx(s.ctx), &sdiv1.SetPecChannelRequest{Company: s.c.Company, Mailbox: box.GetName(), Preference: sdiv1.PecPreference_PEC_PREFERENCE_ONLY})
	require.NoError(t, err)
	for _, boundary := range postBoundaries {
		for _, process := range []string{"sdi-gateway", "pec-gateway"} {
			t.Run(boundary+"/"+process, func(t *testing.T) {
				before, err := s.posted()
				require.NoError(t, err)
				name, err := s.submit(private)
				require.NoError(t, err)
				s.awaitPosted(t, before, boundary)
				require.NoError(t, s.p.Restart(process))
				require.NoError(t, s.p.AwaitReady(s.ctx))
				s.arrive(t, name)
			})
		}
	}
	_, err = s.seal("")
	require.NoError(t, err)
	require.Len(t, s.sent, s.awaitSealed(t), "every invoice is in one package")
	s.checkLog(t) // the endpoint hears of the mailbox too, so it is not compared
	s.checkExchange(t, leftovers{})
	for what, left := range map[string]func() (int, error){
		"parked":    func() (int, error) { list, err := s.p.Parked(s.ctx); return len(list), err },
		"unmatched": func() (int, error) { list, err := s.p.Unmatched(s.ctx); return len(list), err },
	} {
		n, err := left()
		require.NoError(t, err)
		require.Zero(t, n, what)
	}
	counts, err := s.p.Sandbox.Counts(s.ctx)
	require.NoError(t, err)
	require.Zero(t, counts.LettersAstray)
	mailings, err := s.posted()
	require.NoError(t, err)
	require.Equal(t, counts.Letters, len(mailings), "each message came once")
	for _, m := range mailings {
		require.Equal(t, "DELIVERED", m.GetState())
	}
}

// posted are the messages to SdI, newest first.
func (s *scene) posted() ([]*sdiv1.PecMailing, error) {
	api, err := s.c.Post()
	if err != nil {
		return nil, err
	}
	list, err := api.ListPecMailings(s.c.Ctx(s.ctx), &sdiv1.ListPecMailingsRequest{Parent: s.c.Tenant, PageSize: 1000})
	return list.GetMailings(), err
}

// awaitPosted waits for a message that was not there before, in a state or beyond it.
func (s *scene) awaitPosted(t *testing.T, before []*sdiv1.PecMailing, state string) {
	t.Helper()
	for {
		now, err := s.posted()
		if err == nil && len(now) > len(before) && slices.Index(postBoundaries, now[0].GetState()) >= slices.Index(postBoundaries, state) {
			return
		}
		require.NoError(t, s.ctx.Err(), "no message became %s", state)
		time.Sleep(5 * time.Millisecond)
	}
}
