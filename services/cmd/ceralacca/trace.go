package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
)

// moment is one line of the timeline: what a service knows, at its own time.
type moment struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	What    string    `json:"what"`
	Detail  string    `json:"detail,omitempty"`
}

// timeline is the journey of an invoice across all services.
type timeline struct {
	Invoice string   `json:"invoice"`
	State   string   `json:"state"`
	TraceID string   `json:"trace_id"`
	Moments []moment `json:"moments"`
	// Missing names the services that could not be asked.
	Missing []string `json:"missing,omitempty"`
}

func (c *cli) traceCommand() *cobra.Command {
	return verb("trace INVOICE", "The timeline of one invoice across all services", args("INVOICE"), func(ctx context.Context, given []string) error {
		name, err := c.invoiceName(given[0])
		if err != nil {
			return err
		}
		t, err := c.timeline(ctx, name)
		if err != nil {
			return err
		}
		if c.format == formatJSON {
			printJSON(c.out, t)
			return nil
		}
		c.showTimeline(t)
		return nil
	})
}

// timeline asks each service for what it knows. The invoice must be there; a service that cannot be
// asked is named, for the rest of the story is still worth telling.
func (c *cli) timeline(ctx context.Context, name string) (*timeline, error) {
	api, err := c.invoices()
	if err != nil {
		return nil, err
	}
	invoice, err := api.GetInvoice(ctx, &invoicev1.GetInvoiceRequest{Name: name})
	if err != nil {
		return nil, err
	}
	t := &timeline{Moments: []moment{}, Invoice: invoice.GetName(), State: enum("INVOICE_STATE_", invoice.GetState()), TraceID: invoice.GetTraceId()}
	tenant := strings.Join(strings.Split(invoice.GetName(), "/")[:2], "/")
	for _, source := range []struct {
		service string
		ask     func(ctx context.Context, tenant, invoice string) ([]moment, error)
	}{
		{"invoice", c.invoiceMoments}, {"signer", c.signMoments}, {"sdi-gateway", c.sdiMoments},
		{"conservation", c.conservationMoments}, {"notification", c.notificationMoments},
	} {
		moments, err := source.ask(ctx, tenant, invoice.GetName())
		if err != nil {
			t.Missing = append(t.Missing, source.service+": "+c.describeError(err).Message)
			continue
		}
		for i := range moments {
			moments[i].Service = source.service
		}
		t.Moments = append(t.Moments, moments...)
	}
	slices.SortStableFunc(t.Moments, func(a, b moment) int { return a.Time.Compare(b.Time) })
	return t, nil
}

func (c *cli) invoiceMoments(ctx context.Context, tenant, invoice string) ([]moment, error) {
	api, err := c.invoices()
	if err != nil {
		return nil, err
	}
	page, err := api.ListEvents(ctx, &invoicev1.ListEventsRequest{Parent: tenant, Filter: fmt.Sprintf("invoice = %q", invoice), PageSize: 1000})
	if err != nil {
		return nil, err
	}
	var all []moment
	for _, e := range page.GetEvents() {
		all = append(all, moment{Time: e.GetTime().AsTime(), What: e.GetType(), Detail: fmt.Sprintf("event %d", e.GetPosition())})
	}
	return all, nil
}

func (c *cli) signMoments(ctx context.Context, tenant, invoice string) ([]moment, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	page, err := signv1.NewSignServiceClient(conn).ListSignatures(ctx, &signv1.ListSignaturesRequest{Parent: tenant, Subject: invoice})
	if err != nil {
		return nil, err
	}
	var all []moment
	for _, s := range page.GetSignatures() {
		all = append(all, moment{Time: s.GetCreateTime().AsTime(), What: "signature intended", Detail: last(s.GetName())})
		switch s.GetState() {
		case signv1.SignatureState_SIGNATURE_STATE_DONE:
			// The signature carries whole seconds: alone they would put the act before its intent.
			at := s.GetSigningTime().AsTime()
			if at.Before(s.GetCreateTime().AsTime()) {
				at = s.GetCreateTime().AsTime()
			}
			all = append(all, moment{Time: at, What: "signed", Detail: "signing time " + when(s.GetSigningTime()) + ", credential " + last(s.GetCredential())})
		case signv1.SignatureState_SIGNATURE_STATE_FAILED:
			all = append(all, moment{Time: s.GetCreateTime().AsTime(), What: "signature failed", Detail: s.GetFailure()})
		}
	}
	return all, nil
}

func (c *cli) sdiMoments(ctx context.Context, tenant, invoice string) ([]moment, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	page, err := sdiv1.NewSdiServiceClient(conn).ListTransmissions(ctx, &sdiv1.ListTransmissionsRequest{Parent: tenant, Invoice: invoice})
	if err != nil {
		return nil, err
	}
	var all []moment
	for _, t := range page.GetTransmissions() {
		all = append(all, moment{Time: t.GetCreateTime().AsTime(), What: "file name reserved", Detail: t.GetFileName()})
		if t.GetSendTime() != nil {
			all = append(all, moment{Time: t.GetSendTime().AsTime(), What: "taken by SdI", Detail: "SdI id " + t.GetSdiId() + times(t.GetAttempts())})
		}
		if t.GetLastError() != "" {
			all = append(all, moment{Time: t.GetUpdateTime().AsTime(), What: "sending failed", Detail: t.GetLastError()})
		}
		for _, m := range t.GetMessages() {
			all = append(all, moment{Time: m.GetReceiveTime().AsTime(), What: "message " + m.GetType() + " of SdI", Detail: strings.TrimSpace(m.GetFileName() + " " + m.GetProblem())})
		}
	}
	return all, nil
}

func (c *cli) conservationMoments(ctx context.Context, tenant, invoice string) ([]moment, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	api := conservationv1.NewConservationServiceClient(conn)
	page, err := api.ListUnits(ctx, &conservationv1.ListUnitsRequest{Parent: tenant, Subject: invoice})
	if err != nil {
		return nil, err
	}
	var all []moment
	for _, u := range page.GetUnits() {
		all = append(all, moment{Time: u.GetCreateTime().AsTime(), What: "taken in charge", Detail: fmt.Sprintf("unit %s, %d files", last(u.GetName()), len(u.GetFiles()))})
		if u.GetPackage() == "" {
			continue
		}
		p, err := api.GetPackage(ctx, &conservationv1.GetPackageRequest{Name: u.GetPackage()})
		if err != nil {
			return nil, err
		}
		all = append(all, moment{Time: p.GetCreateTime().AsTime(), What: "package closed", Detail: last(p.GetName())})
		if p.GetSealTime() != nil {
			all = append(all, moment{Time: p.GetSealTime().AsTime(), What: "package sealed", Detail: "time stamp " + when(p.GetStampTime())})
		}
	}
	return all, nil
}

func (c *cli) notificationMoments(ctx context.Context, tenant, invoice string) ([]moment, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	page, err := notificationv1.NewNotificationServiceClient(conn).ListDeliveries(ctx, &notificationv1.ListDeliveriesRequest{Parent: tenant, Invoice: invoice, PageSize: 1000})
	if err != nil {
		return nil, err
	}
	var all []moment
	for _, d := range page.GetDeliveries() {
		for i, a := range d.GetAttempts() {
			what := "told " + d.GetEventType()
			if a.GetError() != "" {
				what = "not told " + d.GetEventType()
			}
			all = append(all, moment{Time: a.GetTime().AsTime(), What: what,
				Detail: fmt.Sprintf("%s, attempt %d: %s", strings.Join(strings.Split(d.GetTarget(), "/")[2:], "/"), i+1, outcome(a))})
		}
	}
	return all, nil
}

func (c *cli) showTimeline(t *timeline) {
	c.fields("invoice", t.Invoice, "state", t.State, "trace", t.TraceID)
	layout := "15:04:05.000"
	if n := len(t.Moments); n > 0 && t.Moments[0].Time.Local().Format(time.DateOnly) != t.Moments[n-1].Time.Local().Format(time.DateOnly) {
		layout = "2006-01-02 15:04:05.000"
	}
	var rows [][]string
	for _, m := range t.Moments {
		rows = append(rows, []string{m.Time.Local().Format(layout), "+" + elapsed(m.Time.Sub(t.Moments[0].Time)), m.Service, m.What, m.Detail})
	}
	c.table([]string{"TIME", "SINCE", "SERVICE", "WHAT", "DETAIL"}, rows)
	for _, missing := range t.Missing {
		fmt.Fprintln(c.errOut, "could not be asked:", missing)
	}
}

// elapsed shows milliseconds within the first minute, whole seconds after it, and days.
func elapsed(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.3fs", d.Seconds())
	case d < day:
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%dd%s", d/day, (d % day).Round(time.Second))
}

func times(attempts int32) string {
	if attempts == 1 {
		return ", at the first attempt"
	}
	return fmt.Sprintf(", %d attempts", attempts)
}
