package notification

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"ceralacca.dev/proto/catalog"
	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

func TestWebhook(t *testing.T) {
	w := start(t, "")
	r := receive(t, nil)
	all, some := w.endpoint(r.URL+"/all"), w.endpoint(r.URL+"/some", "invoice.rejected", "preservation.*")
	require.Regexp(t, `^whsec_`, all.GetSecret())
	off, err := w.api.CreateWebhookEndpoint(t.Context(), &notificationv1.CreateWebhookEndpointRequest{Parent: "tenants/acme",
		WebhookEndpoint: &notificationv1.WebhookEndpoint{Url: r.URL, Disabled: true}})
	require.NoError(t, err)
	ids := w.state("acme", accepted(), rejected())
	w.state("brio", &sdiv1.InvoiceDiscarded{Invoice: strings.Replace(invoiceName, "acme", "brio", 1)})
	w.eventually(func() bool { return len(r.got()) == 3 }, "three posts")
	var types []string
	for _, p := range r.got() {
		var body struct {
			Type, Timestamp string
			Data            map[string]any
		}
		require.NoError(t, json.Unmarshal(p.body, &body))
		types = append(types, body.Type)
		require.Equal(t, invoiceName, body.Data["invoice"])
		require.Equal(t, "application/json", p.header.Get("Content-Type"))
		require.Less(t, len(p.body), 20_000)
		require.Contains(t, ids, p.header.Get("webhook-id"), "the id of the event")
		if body.Type == "invoice.accepted" {
			verify(t, p, all.GetSecret())
			continue
		}
		require.Equal(t, "42", body.Data["sdi_id"])
		require.Equal(t, ids[1], p.header.Get("webhook-id"))
	}
	slices.Sort(types)
	require.Equal(t, []string{"invoice.accepted", "invoice.rejected", "invoice.rejected"}, types)

	d := w.ends(some.GetName(), notificationv1.DeliveryState_DELIVERY_STATE_DELIVERED)
	require.Equal(t, "tenants/acme/events/"+ids[1], d.GetEvent())
	require.Equal(t, int32(204), d.GetAttempts()[0].GetStatusCode())
	require.Nil(t, d.GetNextAttemptTime())
	require.Empty(t, w.deliveries(off.GetName()))
	w.eventually(func() bool { // the post is out before its row says so
		return !slices.ContainsFunc(w.deliveries(all.GetName()), func(d *notificationv1.Delivery) bool {
			return d.GetState() != notificationv1.DeliveryState_DELIVERY_STATE_DELIVERED
		})
	}, "both rows of the first endpoint")
	byInvoice, err := w.api.ListDeliveries(t.Context(), &notificationv1.ListDeliveriesRequest{Parent: "tenants/acme", Invoice: invoiceName, PageSize: 2,
		State: notificationv1.DeliveryState_DELIVERY_STATE_DELIVERED})
	require.NoError(t, err)
	require.Len(t, byInvoice.GetDeliveries(), 2)
	require.NotEmpty(t, byInvoice.GetNextPageToken())
}

func TestFailingEndpointIsTriedAgain(t *testing.T) {
	w := start(t, "")
	r := receive(t, func(n int, w http.ResponseWriter) {
		switch n {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			http.Redirect(w, &http.Request{}, "http://127.0.0.1:1/", http.StatusFound)
		default:
			w.WriteHeader(http.StatusOK)
		}
	})
	e := w.endpoint(r.URL, "invoice.rejected")
	w.state("acme", rejected())
	d := w.ends(e.GetName(), notificationv1.DeliveryState_DELIVERY_STATE_DELIVERED)
	require.Len(t, d.GetAttempts(), 3)
	require.Equal(t, int32(500), d.GetAttempts()[0].GetStatusCode())
	require.Contains(t, d.GetAttempts()[1].GetError(), "redirects are not followed")
	require.Equal(t, int32(200), d.GetAttempts()[2].GetStatusCode())
	posts := r.got()
	require.Len(t, posts, 3)
	for _, p := range posts {
		require.Equal(t, posts[0].header.Get("webhook-id"), p.header.Get("webhook-id"))
		require.Equal(t, posts[0].body, p.body)
		verify(t, p, e.GetSecret())
	}
}

func TestSpentDeliveryCanBeSentAgain(t *testing.T) {
	w := start(t, ", retry_schedule: [10ms]")
	var mu sync.Mutex
	status := http.StatusBadRequest
	r := receive(t, func(_ int, w http.ResponseWriter) {
		mu.Lock()
		defer mu.Unlock()
		w.WriteHeader(status)
	})
	e := w.endpoint(r.URL, "invoice.rejected")
	w.state("acme", rejected())
	d := w.ends(e.GetName(), notificationv1.DeliveryState_DELIVERY_STATE_FAILED)
	require.Len(t, d.GetAttempts(), 2, "the first and one retry")

	mu.Lock()
	status = http.StatusOK
	mu.Unlock()
	again, err := w.api.RedeliverDelivery(t.Context(), &notificationv1.RedeliverDeliveryRequest{Name: d.GetName()})
	require.NoError(t, err)
	require.Equal(t, notificationv1.DeliveryState_DELIVERY_STATE_PENDING, again.GetState())
	d = w.ends(e.GetName(), notificationv1.DeliveryState_DELIVERY_STATE_DELIVERED)
	require.Len(t, d.GetAttempts(), 3)
	require.Equal(t, r.got()[0].header.Get("webhook-id"), r.got()[2].header.Get("webhook-id"))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'delivery.redeliver'`))
	_, err = w.api.RedeliverDelivery(t.Context(), &notificationv1.RedeliverDeliveryRequest{Name: "tenants/acme/deliveries/" + uuid.NewString()})
	requireFault(t, err, "DELIVERY_NOT_FOUND")
}

func TestRunningDeliveryIsNotSentTwice(t *testing.T) {
	w := start(t, ", retry_schedule: [1h]")
	r := receive(t, func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) })
	e := w.endpoint(r.URL, "invoice.rejected")
	w.state("acme", rejected())
	w.eventually(func() bool { l := w.deliveries(e.GetName()); return len(l) == 1 && len(l[0].GetAttempts()) == 1 }, "one attempt")
	d := w.deliveries(e.GetName())[0]
	require.WithinRange(t, d.GetNextAttemptTime().AsTime(), time.Now().Add(59*time.Minute), time.Now().Add(73*time.Minute))
	_, err := w.api.RedeliverDelivery(t.Context(), &notificationv1.RedeliverDeliveryRequest{Name: d.GetName()})
	requireFault(t, err, "DELIVERY_PENDING")
}

func TestGoneEndpointIsDisabled(t *testing.T) {
	w := start(t, "")
	r := receive(t, func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusGone) })
	e := w.endpoint(r.URL, "invoice.rejected")
	w.state("acme", rejected())
	w.ends(e.GetName(), notificationv1.DeliveryState_DELIVERY_STATE_FAILED)
	read, err := w.api.GetWebhookEndpoint(t.Context(), &notificationv1.GetWebhookEndpointRequest{Name: e.GetName()})
	require.NoError(t, err)
	require.True(t, read.GetDisabled())
	require.Contains(t, read.GetDisableReason(), "410")
	require.Equal(t, 1, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'webhook.disable' AND actor = 'service:notification'`))
	w.state("acme", rejected())
	time.Sleep(300 * time.Millisecond)
	require.Len(t, r.got(), 1, "it gets no more")

	read.Disabled = false
	on, err := w.api.UpdateWebhookEndpoint(t.Context(), &notificationv1.UpdateWebhookEndpointRequest{WebhookEndpoint: read,
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"disabled"}}})
	require.NoError(t, err)
	require.Empty(t, on.GetDisableReason())
	w.state("acme", rejected())
	w.eventually(func() bool { return len(r.got()) == 2 }, "enabled again, it gets the next")
}

func TestEndpointThatFailsForLongIsDisabled(t *testing.T) {
	w := start(t, ", disable_after: 100ms, retry_schedule: [20ms, 50ms, 100ms, 100ms, 100ms, 100ms]")
	r := receive(t, func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) })
	e := w.endpoint(r.URL, "invoice.rejected")
	w.state("acme", rejected())
	w.ends(e.GetName(), notificationv1.DeliveryState_DELIVERY_STATE_FAILED)
	read, err := w.api.GetWebhookEndpoint(t.Context(), &notificationv1.GetWebhookEndpointRequest{Name: e.GetName()})
	require.NoError(t, err)
	require.True(t, read.GetDisabled())
	require.Contains(t, read.GetDisableReason(), "403")
}

func TestSlowAndDeadEndpoints(t *testing.T) {
	w := start(t, ", retry_schedule: [], timeout: 500ms")
	release := make(chan struct{})
	slow := receive(t, func(int, http.ResponseWriter) { <-release })
	defer close(release)
	dead := receive(t, nil)
	dead.Close()
	a, b := w.endpoint(slow.URL, "invoice.rejected"), w.endpoint(dead.URL, "invoice.rejected")
	w.state("acme", rejected())
	d := w.ends(a.GetName(), notificationv1.DeliveryState_DELIVERY_STATE_FAILED)
	require.Equal(t, "no answer in time", d.GetAttempts()[0].GetError())
	require.Zero(t, d.GetAttempts()[0].GetStatusCode())
	d = w.ends(b.GetName(), notificationv1.DeliveryState_DELIVERY_STATE_FAILED)
	require.Contains(t, d.GetAttempts()[0].GetError(), "refused")
	require.NotContains(t, d.GetAttempts()[0].GetError(), "http://", "the URL may carry a token")
}

func TestBreakerHoldsBackWithoutSpendingAttempts(t *testing.T) {
	w := start(t, ", retry_schedule: [1h]")
	dead := receive(t, nil)
	dead.Close()
	e := w.endpoint(dead.URL, "invoice.rejected")
	for range 30 {
		w.state("acme", rejected())
	}
	w.eventually(func() bool {
		held := 0
		for _, d := range w.deliveries(e.GetName()) {
			if len(d.GetAttempts()) == 0 && d.GetNextAttemptTime() != nil && time.Until(d.GetNextAttemptTime().AsTime()) > 0 {
				held++
			}
		}
		return held > 10
	}, "most are held back by the breaker")
}

func TestRotatedSecretSignsBesideTheOld(t *testing.T) {
	w := start(t, "")
	r := receive(t, nil)
	old := w.endpoint(r.URL, "invoice.rejected")
	rotated, err := w.api.RotateWebhookSecret(t.Context(), &notificationv1.RotateWebhookSecretRequest{Name: old.GetName()})
	require.NoError(t, err)
	require.NotEqual(t, old.GetSecret(), rotated.GetSecret())
	require.NotEqual(t, old.GetEtag(), rotated.GetEtag())
	w.state("acme", rejected())
	w.eventually(func() bool { return len(r.got()) == 1 }, "one post")
	verify(t, r.got()[0], old.GetSecret())
	verify(t, r.got()[0], rotated.GetSecret())

	err = w.DB("notification").System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE webhook_endpoint SET previous_until = now() - interval '1 second'`)
		return err
	})
	require.NoError(t, err)
	w.state("acme", rejected())
	w.eventually(func() bool { return len(r.got()) == 2 }, "one more post")
	require.Len(t, strings.Fields(r.got()[1].header.Get("webhook-signature")), 1)
	verify(t, r.got()[1], rotated.GetSecret())
}

func TestSecretsAreNeverStoredInTheClear(t *testing.T) {
	w := start(t, "")
	req := &notificationv1.CreateWebhookEndpointRequest{Parent: "tenants/acme", RequestId: uuid.NewString(),
		WebhookEndpoint: &notificationv1.WebhookEndpoint{Url: "https://example.com/"}}
	const n = 20
	answers, errs := make([]*notificationv1.WebhookEndpoint, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { answers[i], errs[i] = w.api.CreateWebhookEndpoint(t.Context(), req) })
	}
	wg.Wait()
	for i := range n {
		require.NoError(t, errs[i])
		require.True(t, proto.Equal(answers[0], answers[i]), "a repeat shows the same, secret too")
	}
	require.Equal(t, 1, w.count(`SELECT count(*) FROM webhook_endpoint`))
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(answers[0].GetSecret(), "whsec_"))
	require.NoError(t, err)
	require.Zero(t, w.count(`SELECT count(*) FROM webhook_endpoint WHERE position($1::bytea IN secret) > 0`, raw))
	require.Zero(t, w.count(`SELECT count(*) FROM request_log WHERE position($1::bytea IN response) > 0 OR position(convert_to($2, 'UTF8') IN response) > 0`, raw, answers[0].GetSecret()))
	read, err := w.api.GetWebhookEndpoint(t.Context(), &notificationv1.GetWebhookEndpointRequest{Name: answers[0].GetName()})
	require.NoError(t, err)
	require.Empty(t, read.GetSecret())
}

func TestBadRequestsAndForeignTenants(t *testing.T) {
	w := start(t, "")
	make := func(url string, types ...string) error {
		_, err := w.api.CreateWebhookEndpoint(t.Context(), &notificationv1.CreateWebhookEndpointRequest{Parent: "tenants/acme",
			WebhookEndpoint: &notificationv1.WebhookEndpoint{Url: url, EventTypes: types}})
		return err
	}
	requireFault(t, make("http://example.com/"), "WEBHOOK_URL_INVALID")
	requireFault(t, make("https://10.1.1.1/"), "WEBHOOK_URL_INVALID")
	requireFault(t, make("https://example.com/", "invoice.eaten"), "EVENT_TYPE_UNKNOWN")
	requireFault(t, make("https://example.com/", "rem.*"), "EVENT_TYPE_UNKNOWN")
	requireFault(t, make("https://example.com/", "everything"), "REQUEST_INVALID")
	requireFault(t, make(""), "REQUEST_INVALID")
	require.Zero(t, w.count(`SELECT count(*) FROM webhook_endpoint`))

	e := w.endpoint("https://example.com/")
	brio := notificationv1.NewNotificationServiceClient(w.Tenant("notification", "brio"))
	_, err := brio.GetWebhookEndpoint(t.Context(), &notificationv1.GetWebhookEndpointRequest{Name: e.GetName()})
	requireFault(t, err, "FOREIGN_RESOURCE")
	_, err = brio.RotateWebhookSecret(t.Context(), &notificationv1.RotateWebhookSecretRequest{Name: strings.Replace(e.GetName(), "acme", "brio", 1)})
	requireFault(t, err, "WEBHOOK_ENDPOINT_NOT_FOUND")
	_, err = brio.DeleteWebhookEndpoint(t.Context(), &notificationv1.DeleteWebhookEndpointRequest{Name: strings.Replace(e.GetName(), "acme", "brio", 1)})
	requireFault(t, err, "WEBHOOK_ENDPOINT_NOT_FOUND")
	for _, table := range []string{"webhook_endpoint", "email_subscription", "delivery"} {
		err = w.DB("notification").Tx(t.Context(), "brio", func(ctx context.Context, tx pgx.Tx) error {
			var n int
			err := tx.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&n)
			require.Zero(t, n, table)
			return err
		})
		require.NoError(t, err)
	}

	stale := proto.CloneOf(e)
	_, err = w.api.UpdateWebhookEndpoint(t.Context(), &notificationv1.UpdateWebhookEndpointRequest{WebhookEndpoint: e})
	require.NoError(t, err)
	_, err = w.api.UpdateWebhookEndpoint(t.Context(), &notificationv1.UpdateWebhookEndpointRequest{WebhookEndpoint: stale})
	requireFault(t, err, "ETAG_MISMATCH")
	_, err = w.api.UpdateWebhookEndpoint(t.Context(), &notificationv1.UpdateWebhookEndpointRequest{WebhookEndpoint: &notificationv1.WebhookEndpoint{Name: e.GetName(), Url: e.GetUrl()},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"secret"}}})
	requireFault(t, err, "UPDATE_MASK_INVALID")
	_, err = w.api.ListDeliveries(t.Context(), &notificationv1.ListDeliveriesRequest{Parent: "tenants/acme", Target: "tenants/acme/webhooks"})
	requireFault(t, err, "TARGET_INVALID")
	_, err = w.api.DeleteWebhookEndpoint(t.Context(), &notificationv1.DeleteWebhookEndpointRequest{Name: e.GetName()})
	require.NoError(t, err)
	_, err = w.api.GetWebhookEndpoint(t.Context(), &notificationv1.GetWebhookEndpointRequest{Name: e.GetName()})
	requireFault(t, err, "WEBHOOK_ENDPOINT_NOT_FOUND")
}

func TestEmail(t *testing.T) {
	w := start(t, "")
	for _, language := range []string{"", "en"} {
		_, err := w.api.CreateEmailSubscription(t.Context(), &notificationv1.CreateEmailSubscriptionRequest{Parent: "tenants/acme",
			EmailSubscription: &notificationv1.EmailSubscription{Address: "desk" + language + "@example.com", Language: language, EventTypes: []string{"invoice.rejected"}}})
		require.NoError(t, err)
	}
	list, err := w.api.ListEmailSubscriptions(t.Context(), &notificationv1.ListEmailSubscriptionsRequest{Parent: "tenants/acme", PageSize: 1})
	require.NoError(t, err)
	require.Equal(t, "it", list.GetEmailSubscriptions()[0].GetLanguage())
	require.NotEmpty(t, list.GetNextPageToken())
	w.state("acme", rejected())
	w.eventually(func() bool { return len(w.mail.got()) == 2 }, "two mails")
	for _, l := range w.mail.got() {
		m, err := mail.ReadMessage(bytes.NewReader(l.raw))
		require.NoError(t, err)
		text, err := io.ReadAll(m.Body)
		require.NoError(t, err)
		subject, means := "Fattura scartata", "non =C3=A8 emessa"
		if strings.HasPrefix(l.to, "desken") {
			subject, means = "Invoice rejected", "it is not issued"
		}
		require.Contains(t, m.Header.Get("Subject"), subject)
		require.Contains(t, strings.ReplaceAll(string(text), "=\r\n", ""), means)
		require.Contains(t, string(text), "00423 PrezzoTotale")
		require.Contains(t, m.Header.Get("Message-ID"), "@ceralacca.example>")
		require.Equal(t, "auto-generated", m.Header.Get("Auto-Submitted"))
		require.Equal(t, "no-reply@ceralacca.example", l.from)
	}
}

func TestEmailRefusedAndPutOff(t *testing.T) {
	w := start(t, "")
	sub, err := w.api.CreateEmailSubscription(t.Context(), &notificationv1.CreateEmailSubscriptionRequest{Parent: "tenants/acme",
		EmailSubscription: &notificationv1.EmailSubscription{Address: "desk@example.com", EventTypes: []string{"invoice.rejected"}}})
	require.NoError(t, err)
	w.mail.refuses(&smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "later"})
	w.state("acme", rejected())
	w.eventually(func() bool { l := w.deliveries(sub.GetName()); return len(l) == 1 && len(l[0].GetAttempts()) > 0 }, "put off")
	w.mail.refuses(nil)
	d := w.ends(sub.GetName(), notificationv1.DeliveryState_DELIVERY_STATE_DELIVERED)
	require.Equal(t, int32(451), d.GetAttempts()[0].GetStatusCode())

	_, err = w.api.DeleteEmailSubscription(t.Context(), &notificationv1.DeleteEmailSubscriptionRequest{Name: sub.GetName()})
	require.NoError(t, err)
	other, err := w.api.CreateEmailSubscription(t.Context(), &notificationv1.CreateEmailSubscriptionRequest{Parent: "tenants/acme",
		EmailSubscription: &notificationv1.EmailSubscription{Address: "nobody@example.com", EventTypes: []string{"invoice.rejected"}}})
	require.NoError(t, err)
	w.mail.refuses(&smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"})
	w.state("acme", rejected())
	d = w.ends(other.GetName(), notificationv1.DeliveryState_DELIVERY_STATE_FAILED)
	require.Len(t, d.GetAttempts(), 1, "a mailbox that does not exist is not tried again")
	require.Equal(t, int32(550), d.GetAttempts()[0].GetStatusCode())
}

func TestEveryTypeHasItsWordsInBothLanguages(t *testing.T) {
	require.NotEmpty(t, phrases)
	for _, typ := range catalog.NoticeTypes() {
		for _, language := range []string{italian, english} {
			require.NotEmpty(t, phrases[typ][language].subject, "%s %s", typ, language)
			require.NotEmpty(t, phrases[typ][language].sentence, "%s %s", typ, language)
		}
	}
}

func TestConfigIsRefusedWithReasons(t *testing.T) {
	c := defaults()
	c.AllowNetworks = []string{"127.0.0.1"}
	c.Timeout = time.Hour
	c.SMTP = SMTPConfig{Address: "mail", From: "me", TLS: "maybe", Username: "x"}
	err := c.Validate()
	for _, says := range []string{"secret_key_file", "allow_networks[0]", "127.0.0.0/8", "timeout", "smtp.address", "smtp.from", "smtp.tls", "smtp.username"} {
		require.ErrorContains(t, err, says)
	}
	c = defaults()
	c.SecretKeyFile = "keys"
	require.NoError(t, c.Validate())
}
