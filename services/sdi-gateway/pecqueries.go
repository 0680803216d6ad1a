package sdigateway

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// SetPecChannel gives a company a mailbox, or another place among its channels.
func (s *Service) SetPecChannel(ctx context.Context, req *sdiv1.SetPecChannelRequest) (*sdiv1.PecChannel, error) {
	if !s.cfg.PEC.Enabled {
		return nil, fault.Precondition("PEC_NOT_ENABLED", "this gateway sends nothing by certified mail: set sdi-gateway.pec.enabled, and rpc.peers for pec-gateway and tenancy")
	}
	tenant := tenantOf(req.GetCompany())
	if req.GetMailbox() != "" {
		if tenantOf(req.GetMailbox()) != tenant {
			return nil, fault.Denied("PEC_MAILBOX_FOREIGN", "mailbox: %s is not of the tenant of %s", req.GetMailbox(), req.GetCompany())
		}
		_, err := s.mailboxes.GetMailbox(ctx, &pecv1.GetMailboxRequest{Name: req.GetMailbox()})
		if err != nil {
			return nil, err
		}
	}
	_, err := s.tenancy.GetCompany(ctx, &tenancyv1.GetCompanyRequest{Name: req.GetCompany()})
	if err != nil {
		return nil, err
	}
	preference := strings.TrimPrefix(req.GetPreference().String(), "PEC_PREFERENCE_")
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		before, err := q.GetPecChannel(ctx, req.GetCompany())
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		mailbox := req.GetMailbox()
		if mailbox == "" {
			mailbox = before.Mailbox
		}
		if mailbox == "" {
			return fault.Precondition("PEC_CHANNEL_REQUIRED", "%s has no mailbox: name one", req.GetCompany()).WithField("mailbox", "PEC_CHANNEL_REQUIRED", "is empty")
		}
		err = q.AddPecMailbox(ctx, db.AddPecMailboxParams{TenantID: tenant, Mailbox: mailbox})
		if err == nil {
			err = q.SetPecChannel(ctx, db.SetPecChannelParams{TenantID: tenant, Company: req.GetCompany(), Mailbox: mailbox, Preference: preference,
				Now: pg.Time(s.now()), UpdatedBy: telemetry.Actor(ctx)})
		}
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "pec_channel.set", Resource: req.GetCompany(), Detail: map[string]string{
			"mailbox": mailbox, "preference": preference, "mailbox_before": before.Mailbox, "preference_before": before.Preference, "reason": req.GetReason(),
		}})
	})
	if err != nil {
		return nil, err
	}
	err = s.judgePosts(ctx) // this replica at once; the others within a second
	if err != nil {
		return nil, err
	}
	return s.GetPecChannel(ctx, &sdiv1.GetPecChannelRequest{Company: req.GetCompany()})
}

// GetPecChannel shows certified mail as the channel of a company.
func (s *Service) GetPecChannel(ctx context.Context, req *sdiv1.GetPecChannelRequest) (out *sdiv1.PecChannel, err error) {
	err = s.db.View(ctx, tenantOf(req.GetCompany()), func(ctx context.Context, tx pgx.Tx) error {
		row, err := db.New(tx).GetPecChannel(ctx, req.GetCompany())
		if errors.Is(err, pgx.ErrNoRows) {
			return fault.NotFound("NOT_FOUND", "%s has no mailbox to send from", req.GetCompany())
		}
		if err != nil {
			return err
		}
		list, err := s.showPosts(ctx, tx, []db.ListPecChannelsRow{db.ListPecChannelsRow(row)})
		if err == nil {
			out = list[0]
		}
		return err
	})
	return out, err
}

// ListPecChannels lists the companies that have a mailbox.
func (s *Service) ListPecChannels(ctx context.Context, req *sdiv1.ListPecChannelsRequest) (*sdiv1.ListPecChannelsResponse, error) {
	tenant, err := scopeOf(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	filter := pg.FilterHash("pec channels", tenant)
	after := ""
	_, err = pg.DecodePageToken(req.GetPageToken(), filter, &after)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	out := &sdiv1.ListPecChannelsResponse{}
	return out, s.db.ScopedView(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListPecChannels(ctx, db.ListPecChannelsParams{TenantID: tenant, After: after, N: size + 1})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListPecChannelsRow) []any { return []any{r.Company} })
		if err != nil {
			return err
		}
		out.Channels, err = s.showPosts(ctx, tx, rows)
		return err
	})
}

func (s *Service) showPosts(ctx context.Context, tx pgx.Tx, rows []db.ListPecChannelsRow) ([]*sdiv1.PecChannel, error) {
	q := db.New(tx)
	var boxes []string
	for _, r := range rows {
		boxes = append(boxes, r.Mailbox)
	}
	addresses, err := q.ListAddresses(ctx, boxes)
	if err != nil {
		return nil, err
	}
	out := make([]*sdiv1.PecChannel, len(rows))
	for i, r := range rows {
		waiting, err := q.CountPecWaiting(ctx, db.CountPecWaitingParams{TenantID: tenantOf(r.Company), Company: r.Company})
		if err != nil {
			return nil, err
		}
		p, known := s.postOf(r.Company)
		out[i] = &sdiv1.PecChannel{
			Company: r.Company, Mailbox: r.Mailbox, Preference: sdiv1.PecPreference(sdiv1.PecPreference_value["PEC_PREFERENCE_"+r.Preference]),
			Address: s.cfg.PEC.FirstAddress, Healthy: known && p.reason == "", Reason: p.reason, Doubt: p.doubt, Waiting: waiting,
			UpdateTime: timestamppb.New(r.UpdatedAt), UpdatedBy: r.UpdatedBy,
		}
		for _, a := range addresses {
			if a.Mailbox == r.Mailbox {
				out[i].Assigned = append(out[i].Assigned, &sdiv1.PecAddress{Address: a.Address, AssignTime: timestamppb.New(a.AssignedAt), Message: a.Message,
					LearnTime: timestamppb.New(a.LearnedAt)})
			}
		}
		if len(out[i].GetAssigned()) > 0 {
			out[i].Address = out[i].GetAssigned()[0].GetAddress()
		}
	}
	return out, nil
}

// ListPecMailings lists the messages to SdI, newest first.
func (s *Service) ListPecMailings(ctx context.Context, req *sdiv1.ListPecMailingsRequest) (*sdiv1.ListPecMailingsResponse, error) {
	tenant, err := scopeOf(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	filter := pg.FilterHash("pec mailings", tenant, req.GetState())
	before, err := pageStart(req.GetPageToken(), filter)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	out := &sdiv1.ListPecMailingsResponse{}
	return out, s.db.ScopedView(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListMailings(ctx, db.ListMailingsParams{TenantID: tenant, State: req.GetState(), Before: before, N: size + 1})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListMailingsRow) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for _, r := range rows {
			out.Mailings = append(out.Mailings, &sdiv1.PecMailing{
				Id: r.ID.String(), Mailbox: r.Mailbox, Address: r.Address, State: r.State, Message: r.Message, MessageId: r.MessageID, FileNames: r.FileNames,
				CreateTime: timestamppb.New(r.CreatedAt), SettleTime: stamp(r.SettledAt), Problem: r.Problem,
			})
		}
		return err
	})
}

// ListPecArrivals lists the messages that say that they come from SdI, newest first.
func (s *Service) ListPecArrivals(ctx context.Context, req *sdiv1.ListPecArrivalsRequest) (*sdiv1.ListPecArrivalsResponse, error) {
	tenant, err := scopeOf(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	filter := pg.FilterHash("pec arrivals", tenant, req.GetState())
	before, err := pageStart(req.GetPageToken(), filter)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	out := &sdiv1.ListPecArrivalsResponse{}
	return out, s.db.ScopedView(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListArrivals(ctx, db.ListArrivalsParams{TenantID: tenant, State: req.GetState(), Before: before, N: size + 1})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListArrivalsRow) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for _, r := range rows {
			ref, err := blob.ParseURI(r.ContentUri)
			if err != nil {
				return err
			}
			out.Arrivals = append(out.Arrivals, &sdiv1.PecArrival{
				Message: r.Message, State: r.State, Problem: r.Problem, Content: blobOf(ref, "message/rfc822"), ReceiveTime: timestamppb.New(r.ReceivedAt),
				CertifiedTime: stamp(r.CertifiedAt), Sender: r.Sender, FileNames: r.FileNames,
			})
		}
		return nil
	})
}

// postChannel sums certified mail up as one channel; nil when no company has a mailbox.
func (s *Service) postChannel() *sdiv1.Channel {
	all := s.posts.latest.Load()
	if all == nil || len(*all) == 0 {
		return nil
	}
	sick, reason := 0, ""
	for _, p := range *all {
		if p.reason != "" && p.preference != preferNever {
			sick++
			reason = p.company + ": " + p.reason
		}
	}
	out := &sdiv1.Channel{Name: channelPEC, Healthy: sick == 0}
	if sick > 0 {
		out.Reason = fmt.Sprintf("%d of %d companies; %s", sick, len(*all), reason)
	}
	return out
}

// mayPostAgain says whether a document may go in another message: only when its own was neither delivered in time
// nor surely lost, which is for a person to judge. It keeps its name, so SdI discards what it has already.
func mayPostAgain(mailing string) error {
	switch mailing {
	case mailStateOverdue:
		return nil
	case "":
		return fault.Precondition("SDI_NEXT_MESSAGE", "the document waits for certified mail and goes with the next message by itself: see ceralacca sdi pec show")
	}
	return fault.Precondition("SDI_MESSAGE_UNDER_WAY", "the document is in a message that is %s: receipts are awaited (ceralacca pec status); when the message is known to have reached nobody the document goes again by itself", mailing)
}
