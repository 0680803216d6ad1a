package pecgateway

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

const (
	mostDrafts = 1000    // of a mailbox
	draftBytes = 4 << 20 // of a draft, files apart
	draftPage  = 100     // of a list: recipients may be many
)

// partsOfDraft are what UpdateDraft takes.
var partsOfDraft = []string{"to", "cc", "subject", "text", "html", "attachments", "receipt_type", "from_name", "in_reply_to"}

var draftPattern = regexp.MustCompile(`^tenants/[^/]+/mailboxes/[^/]+/drafts/[^/]+$`)

func noDraft(name string) error {
	return fault.NotFound("DRAFT_NOT_FOUND", "there is no %s: it was sent or removed, or never there", name)
}

// draftID takes the last part of tenants/{tenant}/mailboxes/{mailbox}/drafts/{draft}.
func draftID(name string) (uuid.UUID, error) {
	id, err := uuid.Parse(name[strings.LastIndexByte(name, '/')+1:])
	if err != nil {
		return id, noDraft(name)
	}
	return id, nil
}

// CreateDraft keeps a message that is being written. Faults: Precondition DRAFT_LIMIT; Invalid DRAFT_TOO_LARGE,
// ATTACHMENT_CONTENT; Denied ATTACHMENT_FOREIGN; NotFound BLOB_NOT_FOUND.
func (s *Service) CreateDraft(ctx context.Context, req *pecv1.CreateDraftRequest) (*pecv1.Draft, error) {
	err := s.look(ctx, req.GetParent(), func(context.Context, pgx.Tx, db.Mailbox) error { return nil })
	if err != nil {
		return nil, err // before a byte of a stranger's files is kept
	}
	d := &pecv1.Draft{}
	takeOver(d, req.GetDraft(), partsOfDraft)
	err = s.keepFiles(ctx, req.GetParent(), d)
	if err != nil {
		return nil, err
	}
	content, texts, err := packed(d)
	if err != nil {
		return nil, err
	}
	out := &pecv1.Draft{}
	err = s.at(ctx, req.GetParent(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		return rpc.Once(ctx, tx, "CreateDraft", req.GetRequestId(), req, out, func() error {
			n, err := q(tx).CountDrafts(ctx, db.CountDraftsParams{TenantID: box.TenantID, MailboxID: box.ID})
			if err != nil {
				return err
			}
			if n >= mostDrafts {
				return fault.Precondition("DRAFT_LIMIT", "a mailbox has at most %d drafts: send or remove some", mostDrafts)
			}
			id, err := pg.NewID()
			if err != nil {
				return err
			}
			now := pg.Time(s.now())
			err = q(tx).InsertDraft(ctx, db.InsertDraftParams{TenantID: box.TenantID, ID: id, MailboxID: box.ID, Content: content, Texts: texts, Now: now})
			if err != nil {
				return err
			}
			shown, err := showDraft(box, db.Draft{ID: id, Content: content, Texts: texts, Version: 1, CreateTime: now, UpdateTime: now})
			if err == nil {
				proto.Merge(out, shown)
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// keepFiles puts the files of a draft that came as data into the store, and refuses references to what is not there.
func (s *Service) keepFiles(ctx context.Context, mailbox string, d *pecv1.Draft) error {
	tenant, _, err := splitMailbox(mailbox)
	if err != nil {
		return err
	}
	for i, a := range d.GetAttachments() {
		f, err := s.attachment(ctx, tenant, fmt.Sprintf("draft.attachments[%d]", i), a)
		if err != nil {
			return err
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		kept := a.GetContent()
		if len(a.GetData()) > 0 {
			var ref blob.Ref
			ref, err = s.blobs.PutReader(ctx, tenant, r)
			kept = &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: a.GetMediaType()}
		}
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		d.Attachments[i] = &pecv1.Attachment{FileName: a.GetFileName(), MediaType: a.GetMediaType(), Content: kept}
	}
	return nil
}

// takeOver sets the parts of a draft that are named.
func takeOver(d, in *pecv1.Draft, parts []string) {
	for _, p := range parts {
		switch p {
		case "to":
			d.To = in.GetTo()
		case "cc":
			d.Cc = in.GetCc()
		case "subject":
			d.Subject = in.GetSubject()
		case "text":
			d.Text = in.GetText()
		case "html":
			d.Html = in.GetHtml()
		case "attachments":
			d.Attachments = slices.Clone(in.GetAttachments())
		case "receipt_type":
			d.ReceiptType = in.GetReceiptType()
		case "from_name":
			d.FromName = in.GetFromName()
		case "in_reply_to":
			d.InReplyTo = in.GetInReplyTo()
		}
	}
}

// packed is a draft as its row holds it: what lists show, and the texts apart.
func packed(d *pecv1.Draft) (content, texts []byte, err error) {
	bare := proto.CloneOf(d)
	bare.Name, bare.Etag, bare.CreateTime, bare.UpdateTime, bare.Text, bare.Html = "", "", nil, nil, "", ""
	content, err = proto.Marshal(bare)
	if err != nil {
		return nil, nil, err
	}
	texts, err = proto.Marshal(&pecv1.Draft{Text: d.GetText(), Html: d.GetHtml()})
	if err == nil && len(content)+len(texts) > draftBytes {
		err = fault.Invalid("DRAFT_TOO_LARGE", "the draft has %d bytes without its files, at most %d are kept: attach what is long as a file", len(content)+len(texts), draftBytes).
			WithField("draft.text", "DRAFT_TOO_LARGE", "is too long")
	}
	return content, texts, err
}

// showDraft is the draft of a row; without its texts when the row was read without them.
func showDraft(box db.Mailbox, row db.Draft) (*pecv1.Draft, error) {
	d := &pecv1.Draft{}
	for _, raw := range [][]byte{row.Content, row.Texts} {
		err := proto.UnmarshalOptions{Merge: true}.Unmarshal(raw, d)
		if err != nil {
			return nil, fmt.Errorf("pec-gateway: draft %s: %w", row.ID, err)
		}
	}
	d.Name, d.Etag = mailboxName(box.TenantID, box.ID)+"/drafts/"+row.ID.String(), etag(row.Version)
	d.CreateTime, d.UpdateTime = timestamppb.New(row.CreateTime), timestamppb.New(row.UpdateTime)
	return d, nil
}

// GetDraft shows one draft.
func (s *Service) GetDraft(ctx context.Context, req *pecv1.GetDraftRequest) (*pecv1.Draft, error) {
	id, err := draftID(req.GetName())
	if err != nil {
		return nil, err
	}
	var out *pecv1.Draft
	err = s.look(ctx, req.GetName(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		row, err := q(tx).GetDraft(ctx, db.GetDraftParams{TenantID: box.TenantID, MailboxID: box.ID, ID: id})
		if errors.Is(err, pgx.ErrNoRows) {
			return s.guessed(ctx, tx, box, noDraft(req.GetName()), id)
		}
		if err == nil {
			out, err = showDraft(box, row)
		}
		return err
	})
	return out, err
}

// ListDrafts lists the drafts of a mailbox, the last changed first, without their texts.
func (s *Service) ListDrafts(ctx context.Context, req *pecv1.ListDraftsRequest) (*pecv1.ListDraftsResponse, error) {
	filter := pg.FilterHash("drafts", req.GetParent())
	var micros int64
	var last string
	found, err := pg.DecodePageToken(req.GetPageToken(), filter, &micros, &last)
	if err != nil {
		return nil, err
	}
	size := min(pageSize(req.GetPageSize()), draftPage)
	out := &pecv1.ListDraftsResponse{}
	err = s.look(ctx, req.GetParent(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		p := db.ListDraftsParams{TenantID: box.TenantID, MailboxID: box.ID, PageSize: size + 1}
		if found {
			before := time.UnixMicro(micros)
			p.Before = &before
			p.BeforeID, err = uuid.Parse(last)
			if err != nil {
				return fault.Invalid("PAGE_TOKEN_INVALID", "page_token: it is not one that this list gave").WithField("page_token", "PAGE_TOKEN_INVALID", "is unknown")
			}
		}
		rows, err := q(tx).ListDrafts(ctx, p)
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListDraftsRow) []any { return []any{r.UpdateTime.UnixMicro(), r.ID.String()} })
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err != nil {
				return err
			}
			var d *pecv1.Draft
			d, err = showDraft(box, db.Draft{ID: r.ID, Content: r.Content, Version: r.Version, CreateTime: r.CreateTime, UpdateTime: r.UpdateTime})
			out.Drafts = append(out.Drafts, d)
		}
		return err
	})
	return out, err
}

// lockDraft reads a draft that is about to change. given is the etag that the caller has read, empty for any.
// Faults: NotFound DRAFT_NOT_FOUND; Aborted ETAG_MISMATCH.
func (s *Service) lockDraft(ctx context.Context, tx pgx.Tx, box db.Mailbox, id uuid.UUID, given string) (db.Draft, error) {
	row, err := q(tx).LockDraft(ctx, db.LockDraftParams{TenantID: box.TenantID, MailboxID: box.ID, ID: id})
	if errors.Is(err, pgx.ErrNoRows) {
		return row, s.guessed(ctx, tx, box, noDraft(mailboxName(box.TenantID, box.ID)+"/drafts/"+id.String()), id)
	}
	if err == nil && given != "" && given != etag(row.Version) {
		err = fault.Aborted("ETAG_MISMATCH", "the draft was changed in between: read it again").WithField("etag", "ETAG_MISMATCH", "is not the current one")
	}
	return row, err
}

// UpdateDraft changes the parts that the mask names.
func (s *Service) UpdateDraft(ctx context.Context, req *pecv1.UpdateDraftRequest) (*pecv1.Draft, error) {
	in, paths := req.GetDraft(), req.GetUpdateMask().GetPaths()
	if len(paths) == 0 {
		return nil, fault.Invalid("MASK_REQUIRED", "update_mask: name what is to change: %v", partsOfDraft).WithField("update_mask", "MASK_REQUIRED", "is empty")
	}
	for _, p := range paths {
		if !slices.Contains(partsOfDraft, p) {
			return nil, fault.Invalid("FIELD_NOT_CHANGEABLE", "update_mask: %q cannot be changed; these can: %v", p, partsOfDraft).WithField("update_mask", "FIELD_NOT_CHANGEABLE", "names "+p)
		}
	}
	if !draftPattern.MatchString(in.GetName()) {
		return nil, fault.Invalid("NAME_INVALID", "draft.name: write it as tenants/{tenant}/mailboxes/{mailbox}/drafts/{draft}").WithField("draft.name", "NAME_INVALID", "is no name of a draft")
	}
	id, err := draftID(in.GetName())
	if err != nil {
		return nil, err
	}
	err = s.look(ctx, in.GetName(), func(context.Context, pgx.Tx, db.Mailbox) error { return nil })
	if err != nil {
		return nil, err
	}
	given := &pecv1.Draft{}
	takeOver(given, in, paths)
	err = s.keepFiles(ctx, in.GetName(), given)
	if err != nil {
		return nil, err
	}
	var out *pecv1.Draft
	err = s.at(ctx, in.GetName(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		row, err := s.lockDraft(ctx, tx, box, id, in.GetEtag())
		if err != nil {
			return err
		}
		now, err := showDraft(box, row)
		if err != nil {
			return err
		}
		takeOver(now, given, paths)
		row.Content, row.Texts, err = packed(now)
		if err != nil {
			return err
		}
		row.UpdateTime, row.Version = pg.Time(s.now()), row.Version+1
		err = q(tx).KeepDraft(ctx, db.KeepDraftParams{TenantID: row.TenantID, ID: row.ID, Content: row.Content, Texts: row.Texts, Now: row.UpdateTime})
		if err == nil {
			out, err = showDraft(box, row)
		}
		return err
	})
	return out, err
}

// DeleteDraft removes a draft. Its files stay in the store, where others may refer to the same bytes.
func (s *Service) DeleteDraft(ctx context.Context, req *pecv1.DeleteDraftRequest) (*emptypb.Empty, error) {
	id, err := draftID(req.GetName())
	if err != nil {
		return nil, err
	}
	err = s.at(ctx, req.GetName(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		_, err := s.lockDraft(ctx, tx, box, id, req.GetEtag())
		if err == nil {
			err = q(tx).DropDraft(ctx, db.DropDraftParams{TenantID: box.TenantID, ID: id})
		}
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "draft.delete", Resource: req.GetName()})
	})
	return &emptypb.Empty{}, err
}

// SendDraft sends a draft on the way of SendMessage. The transaction that writes the message down removes the draft, so
// of two that send it, or of one that asks twice, one message comes.
func (s *Service) SendDraft(ctx context.Context, req *pecv1.SendDraftRequest) (*pecv1.Message, error) {
	id, err := draftID(req.GetName())
	if err != nil {
		return nil, err
	}
	box, err := s.sender(ctx, req.GetName(), false)
	if err != nil {
		return nil, err
	}
	version, letters, err := s.writeDraft(ctx, box, id, req)
	if err != nil {
		return nil, err
	}
	out := &pecv1.Message{}
	err = s.db.Tx(ctx, box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, "SendDraft", req.GetRequestId(), req, out, func() error {
			_, err := s.lockDraft(ctx, tx, box, id, version)
			if err == nil && len(letters) == 0 {
				err = noDraft(req.GetName()) // it was not there when it was to be composed
			}
			if err == nil {
				err = q(tx).DropDraft(ctx, db.DropDraftParams{TenantID: box.TenantID, ID: id})
			}
			if err != nil {
				return err
			}
			return s.enqueue(ctx, tx, box, letters, req.GetRequestId(), out)
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// writeDraft composes the message of a draft and says of which version it is. Of a draft that is not there it gives
// nothing: the request may be the repeat of one that has sent it.
func (s *Service) writeDraft(ctx context.Context, box db.Mailbox, id uuid.UUID, req *pecv1.SendDraftRequest) (string, []letter, error) {
	var d *pecv1.Draft
	err := s.db.View(ctx, box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).GetDraft(ctx, db.GetDraftParams{TenantID: box.TenantID, MailboxID: box.ID, ID: id})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil {
			d, err = showDraft(box, row)
		}
		return err
	})
	if err != nil || d == nil {
		return "", nil, err
	}
	if req.GetEtag() != "" && req.GetEtag() != d.GetEtag() {
		return "", nil, fault.Aborted("ETAG_MISMATCH", "the draft was changed in between: read it again").WithField("etag", "ETAG_MISMATCH", "is not the current one")
	}
	letters, err := s.write(ctx, box, &pecv1.SendMessageRequest{
		Parent: mailboxName(box.TenantID, box.ID), To: d.GetTo(), Cc: d.GetCc(), Subject: d.GetSubject(), Text: d.GetText(), Html: d.GetHtml(),
		Attachments: d.GetAttachments(), ReceiptType: d.GetReceiptType(), FromName: d.GetFromName(), InReplyTo: d.GetInReplyTo(), AllowSplit: req.GetAllowSplit(),
	}, "draft "+id.String()) // one draft is one message
	return d.GetEtag(), letters, err
}
