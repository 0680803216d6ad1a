package pec

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestA15A17A18Preflight: every reason for which a provider would refuse a message has its code and a way to
// mend it. TESTPLAN A18, A19.
func TestA15A17A18Preflight(t *testing.T) {
	const box = "mittente@alfa.test"
	good := "From: mittente@alfa.test\r\nTo: a@b.test\r\nCc: c@d.test\r\nDate: Sun, 22 Nov 2026 10:00:00 +0100\r\nMessage-ID: <x@alfa.test>\r\nSubject: s\r\n\r\nb\r\n"
	with := func(old, fresh string) string { return strings.Replace(good, old, fresh, 1) }
	program := with("Subject: s\r\n\r\nb", "Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Type: application/octet-stream; name=a.exe\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\nMZ\r\n--B--")
	for name, c := range map[string]struct {
		raw  string
		env  Envelope
		lim  SubmissionLimits
		want []string
	}{
		"good":                   {raw: good},
		"case of the mailbox":    {raw: good, env: Envelope{MailFrom: "Mittente@alfa.test"}, want: []string{"FROM_NOT_MAILBOX"}},
		"two senders":            {raw: with("To: a@b.test", "From: x@alfa.test\r\nTo: a@b.test"), want: []string{"FROM_COUNT"}},
		"another sender":         {raw: with("From: mittente", "From: altri"), want: []string{"FROM_MISMATCH"}},
		"Cc alone":               {raw: with("To: a@b.test\r\n", ""), env: Envelope{Recipients: []string{"c@d.test"}}, want: []string{"TO_MISSING"}},
		"Bcc":                    {raw: with("Subject:", "Bcc: e@f.test\r\nSubject:"), want: []string{"BCC_PRESENT"}},
		"hidden recipient":       {raw: good, env: Envelope{Recipients: []string{"a@b.test", "c@d.test", "e@f.test"}}, want: []string{"RECIPIENT_NOT_NAMED"}},
		"recipient left out":     {raw: good, env: Envelope{Recipients: []string{"a@b.test"}}, want: []string{"RECIPIENT_LEFT_OUT"}},
		"no Message-ID":          {raw: with("Message-ID: <x@alfa.test>\r\n", ""), want: []string{"MESSAGE_ID_INVALID"}},
		"long Message-ID":        {raw: with("<x@", "<"+strings.Repeat("x", 200)+"@"), want: []string{"MESSAGE_ID_INVALID"}},
		"no date":                {raw: with("Date: Sun, 22 Nov 2026 10:00:00 +0100\r\n", ""), want: []string{"DATE_MISSING"}},
		"pretends to a receipt":  {raw: with("Subject:", "X-Ricevuta: accettazione\r\nSubject:"), want: []string{"FIELD_RESERVED"}},
		"unknown receipt":        {raw: with("Subject:", "X-TipoRicevuta: lunga\r\nSubject:"), want: []string{"RECEIPT_TYPE_INVALID"}},
		"too many":               {raw: good, lim: SubmissionLimits{Recipients: 1}, want: []string{"TOO_MANY_RECIPIENTS"}},
		"exactly the volume":     {raw: good, lim: SubmissionLimits{Volume: int64(2 * len(good))}},
		"a byte over the volume": {raw: good, lim: SubmissionLimits{Volume: int64(2*len(good) - 1)}, want: []string{"TOO_LARGE"}},
		"program":                {raw: program, lim: SubmissionLimits{NoPrograms: true}, want: []string{"ATTACHMENT_REFUSED"}},
		"program, taken":         {raw: program},
	} {
		t.Run(name, func(t *testing.T) {
			e := c.env
			if e.MailFrom == "" {
				e.MailFrom = box
			}
			if e.Recipients == nil {
				e.Recipients = []string{"a@b.test", "c@d.test"}
			}
			m, err := ParseBytes([]byte(c.raw))
			require.NoError(t, err)
			vs, err := Preflight(m, e, box, c.lim)
			require.NoError(t, err)
			var codes []string
			for _, v := range vs {
				codes = append(codes, v.Code)
				require.NotEmpty(t, v.Hint(), v.Code)
				require.NotEmpty(t, v.Message)
				require.NotEmpty(t, v.Field)
			}
			require.Equal(t, c.want, codes)
		})
	}
}

// TestA17EdgesOfTheLimits: as many recipients as a provider takes pass, one more does not, and goes in two messages with consent.
// TESTPLAN A17.
func TestA17EdgesOfTheLimits(t *testing.T) {
	for _, limit := range []int{50, 500, 1000} {
		for _, n := range []int{limit, limit + 1} {
			d := draft()
			d.To, d.Cc, d.Attachments = nil, nil, nil
			for i := range n {
				d.To = append(d.To, Address{Addr: fmt.Sprintf("r%d@beta.test", i)})
			}
			lim := SubmissionLimits{Recipients: limit, Volume: 100 << 20}
			raw := composed(t, d)
			m, err := ParseBytes(raw)
			require.NoError(t, err)
			vs, err := Preflight(m, envelopeOf(d), d.From.Addr, lim)
			require.NoError(t, err)
			parts, err := d.Split(int64(len(raw)), lim)
			require.NoError(t, err)
			if n == limit {
				require.Empty(t, vs, n)
				require.Len(t, parts, 1)
				continue
			}
			require.Len(t, vs, 1, n)
			require.Equal(t, "TOO_MANY_RECIPIENTS", vs[0].Code)
			require.Len(t, parts, 2)
			require.Equal(t, n, len(parts[0].Recipients())+len(parts[1].Recipients()))
		}
	}
}

// TestA17Split: every recipient is in exactly one message, each message has somebody in To and keeps the
// limits, and no more messages are made than are needed.
func TestA17Split(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Draft{}
		for i := range rapid.IntRange(1, 60).Draw(t, "to") {
			d.To = append(d.To, Address{Addr: fmt.Sprintf("t%d@x.test", i)})
		}
		for i := range rapid.IntRange(0, 60).Draw(t, "cc") {
			d.Cc = append(d.Cc, Address{Addr: fmt.Sprintf("c%d@x.test", i)})
		}
		if rapid.Bool().Draw(t, "twice") {
			d.Cc = append(d.Cc, Address{Addr: "T0@x.test"}, d.To[0])
		}
		lim := SubmissionLimits{Recipients: rapid.IntRange(1, 40).Draw(t, "recipients"), Volume: int64(rapid.IntRange(1, 1000).Draw(t, "volume")), Reserve: 1}
		size := int64(rapid.IntRange(1, 100).Draw(t, "size"))
		out, err := d.Split(size, lim)
		n := len(d.Recipients())
		most := min(int64(lim.Recipients), lim.Volume/(size+1))
		if most == 0 {
			require.ErrorContains(t, err, "even for one recipient")
			return
		}
		need := (int64(n) + most - 1) / most
		if int64(len(d.To)) < need {
			require.ErrorContains(t, err, "To names only")
			return
		}
		require.NoError(t, err)
		require.Len(t, out, int(need))
		seen := map[string]int{}
		for _, o := range out {
			require.NotEmpty(t, o.To)
			require.LessOrEqual(t, int64(len(o.Recipients())), most)
			for _, a := range o.Recipients() {
				seen[strings.ToLower(a)]++
			}
		}
		require.Len(t, seen, n)
		for a, k := range seen {
			require.Equal(t, 1, k, a)
		}
	})
}

// TestCancelled: a person's decision ends the waiting, and a receipt says more than it.
func TestCancelled(t *testing.T) {
	to := []string{"a@b.test"}
	queued, unknown, cancelled := Fact{Kind: FactQueued, At: at}, Fact{Kind: FactUnknown, At: at}, Fact{Kind: FactCancelled, At: at}
	s := Derive(to, []Fact{queued, cancelled}, at)
	require.Equal(t, SendCancelled, s.State)
	require.True(t, s.Final)
	require.Equal(t, SendCancelled, Derive(to, []Fact{cancelled, unknown, queued}, at).State)
	require.Equal(t, SendSubmitted, Derive(to, []Fact{cancelled, unknown, {Kind: FactSubmitted, At: at}}, at).State)
	require.Equal(t, SendDelivered, Derive(to, []Fact{cancelled, unknown, {Kind: FactDelivered, At: at, Recipient: to[0], Identificativo: "1"}}, at).State)
}

// TestComposeEndsWithALine: SMTP adds nothing to what is kept.
func TestComposeEndsWithALine(t *testing.T) {
	for _, text := range []string{"", "senza fine", "con fine\n"} {
		d := draft()
		d.Attachments, d.HTML, d.Text = nil, "", text
		var b bytes.Buffer
		_, err := Compose(&b, d)
		require.NoError(t, err)
		require.True(t, bytes.HasSuffix(b.Bytes(), []byte("\r\n")), "%q", text)
	}
}
