package conservation

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
)

// receivedDays counts, day by day in Rome, what the gateway received for a tenant and what of it the archive keeps.
type receivedDays map[string]*receivedDay

type receivedDay struct{ received, kept int }

func (d receivedDays) add(day string, kept bool) {
	if d[day] == nil {
		d[day] = &receivedDay{}
	}
	d[day].received++
	d[day].kept += boolInt(kept)
}

// receivedKept asks the gateway what a tenant received: each file that has found its company a while ago must have its unit, and
// SdI's notice that the term is over must be with it. What is missing is named; when a person asked for the check it is taken in too, as
// if its event came now. Not by itself: where rows were lost, and not documents, it would be a second unit of the same key, and the first
// could not be restored any more.
func (s *Service) receivedKept(ctx context.Context, f *findings, tenant string) error {
	if s.inbound == nil {
		f.note("received invoices were not compared: rpc.peers has no address of sdi-gateway")
		return nil
	}
	before, days := s.now().Add(-s.cfg.Checks.Settling), receivedDays{}
	for token := ""; ; {
		page, err := s.inbound.ListInboundInvoices(ctx, &sdiv1.ListInboundInvoicesRequest{Parent: "tenants/" + tenant + "/companies/-", PageSize: completePage, PageToken: token})
		if unanswered(err) {
			f.note("received invoices were not compared: the sdi-gateway does not list them for the archive before it is upgraded")
			return nil
		}
		if err != nil {
			return err
		}
		due := slices.DeleteFunc(page.GetInboundInvoices(), func(in *sdiv1.InboundInvoice) bool {
			return in.GetDestruction() != nil || !in.GetUpdateTime().AsTime().Before(before)
		})
		err = s.receivedPage(ctx, f, tenant, due, days)
		if err != nil {
			return err
		}
		token = page.GetNextPageToken()
		if token == "" {
			days.tell(f, tenant)
			return nil
		}
	}
}

// receivedPage compares some of what was received.
func (s *Service) receivedPage(ctx context.Context, f *findings, tenant string, due []*sdiv1.InboundInvoice, days receivedDays) error {
	names := make([]string, len(due))
	for i, in := range due {
		names[i] = in.GetName()
	}
	var rows []db.SubjectsHeldRow
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		rows, err = db.New(tx).SubjectsHeld(ctx, db.SubjectsHeldParams{Tenant: tenant, Subjects: names})
		return err
	})
	if err != nil {
		return err
	}
	held := map[string][]db.SubjectsHeldRow{}
	for _, r := range rows {
		held[r.Subject] = append(held[r.Subject], r)
	}
	f.Checked += int64(len(names))
	for _, in := range due {
		units := held[in.GetName()]
		standing := slices.DeleteFunc(slices.Clone(units), func(u db.SubjectsHeldRow) bool { return u.State == "REFUSED" || u.State == "DESTROYED" })
		days.add(in.GetReceiveTime().AsTime().In(s.rome).Format(time.DateOnly), len(standing) > 0)
		switch {
		case len(units) == 0:
			err = s.takeMissed(ctx, f, tenant, in)
		case len(standing) == 0:
			f.bad(in.GetName(), "it was received and its unit is %s here, of which the gateway does not know", units[0].State)
		case in.GetExpiry() != nil && !slices.ContainsFunc(units, func(u db.SubjectsHeldRow) bool { return u.Expiry }):
			err = s.takeExpiry(ctx, f, tenant, in)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takeMissed takes in what the archive never heard of, from what the gateway says of it: the same that the event says.
func (s *Service) takeMissed(ctx context.Context, f *findings, tenant string, in *sdiv1.InboundInvoice) error {
	what := "it was received on " + in.GetReceiveTime().AsTime().Format(time.RFC3339) + " and had no unit"
	if f.AskedBy == byTimer {
		f.bad(in.GetName(), "%s: %s", what, notByItself)
		return nil
	}
	err := s.db.Tx(bus.WithCorrelation(ctx, path.Base(in.GetName())), tenant, func(ctx context.Context, tx pgx.Tx) error {
		return s.onInboundInvoiceReceived(ctx, tx, &sdiv1.InboundInvoiceReceived{
			InboundInvoice: in.GetName(), SdiId: in.GetSdiId(), FileName: in.GetFileName(), Format: in.GetFormat(), RecipientCode: in.GetRecipientCode(),
			RoutedBy: in.GetRoutedBy(), Original: in.GetOriginal(), Metadata: in.GetMetadata(), ReceiveTime: in.GetReceiveTime(), AnswerBy: in.GetAnswerBy(),
		})
	})
	if err == nil && in.GetExpiry() != nil {
		err = s.addExpiry(ctx, tenant, in)
	}
	return s.tellMissed(ctx, f, in, what, err)
}

// notByItself says how what is missing is taken in.
const notByItself = "where rows were lost make a check restore, then ask for a check of completeness, which takes it in"

// takeExpiry adds a notice of which the archive never heard to its unit.
func (s *Service) takeExpiry(ctx context.Context, f *findings, tenant string, in *sdiv1.InboundInvoice) error {
	what := "its unit had not the notice " + in.GetExpiry().GetFileName()
	if f.AskedBy == byTimer {
		f.bad(in.GetName(), "%s: %s", what, notByItself)
		return nil
	}
	return s.tellMissed(ctx, f, in, what, s.addExpiry(ctx, tenant, in))
}

func (s *Service) addExpiry(ctx context.Context, tenant string, in *sdiv1.InboundInvoice) error {
	return s.db.Tx(bus.WithCorrelation(ctx, path.Base(in.GetName())), tenant, func(ctx context.Context, tx pgx.Tx) error {
		return s.onInboundTermExpired(ctx, tx, &sdiv1.InboundTermExpired{
			InboundInvoice: in.GetName(), SdiId: in.GetSdiId(), FileName: in.GetExpiry().GetFileName(), Content: in.GetExpiry().GetContent(), ReceiveTime: in.GetExpireTime(),
		})
	})
}

// tellMissed names what was missing, and whether it is in custody now. What cannot be taken in holds up nothing else.
func (s *Service) tellMissed(ctx context.Context, f *findings, in *sdiv1.InboundInvoice, what string, err error) error {
	switch {
	case err == nil:
		f.bad(in.GetName(), "%s: it was taken in now, from what the gateway has", what)
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		f.bad(in.GetName(), "%s, and could not be taken in: %s: look for its event among the parked ones of conservation", what, fault.Of(err).Error())
	}
	return nil
}

// tell names the days of which something was missing, and says of the others that they are whole.
func (d receivedDays) tell(f *findings, tenant string) {
	var days, short []string
	sum := receivedDay{}
	for day, n := range d {
		days = append(days, day)
		sum.received += n.received
		sum.kept += n.kept
		if n.kept < n.received {
			short = append(short, fmt.Sprintf("%s (%d of %d)", day, n.kept, n.received))
		}
	}
	if len(days) == 0 || len(f.Notes) >= mostProblems {
		return
	}
	slices.Sort(days)
	slices.Sort(short)
	whole := fmt.Sprintf("tenant %s received %d invoices on %d days from %s to %s", tenant, sum.received, len(days), days[0], days[len(days)-1])
	if len(short) == 0 {
		f.note("%s: all were in custody", whole)
		return
	}
	more := ""
	if len(short) > mostDays {
		more, short = fmt.Sprintf(" and %d more", len(short)-mostDays), short[:mostDays]
	}
	f.note("%s: %d were in custody, on %d days all; missing on %s%s", whole, sum.kept, len(days)-len(short), strings.Join(short, ", "), more)
}

// mostDays bounds how many days of a tenant are named.
const mostDays = 100
