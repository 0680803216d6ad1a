package pecgateway

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/emptypb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

const mostFolders = 1000

func noFolder(name string) error {
	return fault.NotFound("FOLDER_NOT_FOUND", "there is no folder %q: make it first", name)
}

// ListFolders lists the folders that were made here and those in which messages stand.
func (s *Service) ListFolders(ctx context.Context, req *pecv1.ListFoldersRequest) (*pecv1.ListFoldersResponse, error) {
	out := &pecv1.ListFoldersResponse{}
	err := s.look(ctx, req.GetParent(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		own, err := q(tx).ListOwnFolders(ctx, db.ListOwnFoldersParams{TenantID: box.TenantID, MailboxID: box.ID})
		if err != nil {
			return err
		}
		counts, err := q(tx).CountFolders(ctx, db.CountFoldersParams{TenantID: box.TenantID, MailboxID: box.ID})
		if err != nil {
			return err
		}
		for _, c := range counts {
			if c.Folder != "" { // what was sent from here stands in none
				out.Folders = append(out.Folders, &pecv1.Folder{Name: c.Folder, Messages: c.Messages, Own: slices.Contains(own, c.Folder)})
			}
		}
		for _, name := range own {
			if !slices.ContainsFunc(out.GetFolders(), func(f *pecv1.Folder) bool { return f.GetName() == name }) {
				out.Folders = append(out.Folders, &pecv1.Folder{Name: name, Own: true})
			}
		}
		slices.SortFunc(out.GetFolders(), func(a, b *pecv1.Folder) int { return strings.Compare(a.GetName(), b.GetName()) })
		return nil
	})
	return out, err
}

// CreateFolder makes a folder. Faults: Conflict FOLDER_EXISTS; Exhausted FOLDER_LIMIT.
func (s *Service) CreateFolder(ctx context.Context, req *pecv1.CreateFolderRequest) (*pecv1.Folder, error) {
	name := strings.TrimSpace(req.GetFolder())
	err := s.at(ctx, req.GetParent(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		return s.makeFolder(ctx, tx, box, name)
	})
	if err != nil {
		return nil, err
	}
	return &pecv1.Folder{Name: name, Own: true}, nil
}

func (s *Service) makeFolder(ctx context.Context, tx pgx.Tx, box db.Mailbox, name string) error {
	if name == "" {
		return fault.Invalid("FOLDER_REQUIRED", "a folder has a name").WithField("folder", "FOLDER_REQUIRED", "is empty")
	}
	own, err := q(tx).ListOwnFolders(ctx, db.ListOwnFoldersParams{TenantID: box.TenantID, MailboxID: box.ID})
	if err != nil {
		return err
	}
	if len(own) >= mostFolders {
		return fault.Precondition("FOLDER_LIMIT", "a mailbox has at most %d folders", mostFolders)
	}
	exists, err := folderExists(ctx, tx, box, name)
	if err != nil {
		return err
	}
	if exists {
		return fault.Conflict("FOLDER_EXISTS", "there is a folder %q already", name)
	}
	n, err := q(tx).InsertFolder(ctx, db.InsertFolderParams{TenantID: box.TenantID, MailboxID: box.ID, Name: name, CreateTime: pg.Time(s.now())})
	if err == nil && n == 0 {
		err = fault.Conflict("FOLDER_EXISTS", "there is a folder %q already", name)
	}
	return err
}

func folderExists(ctx context.Context, tx pgx.Tx, box db.Mailbox, name string) (bool, error) {
	found, err := q(tx).FolderExists(ctx, db.FolderExistsParams{TenantID: box.TenantID, MailboxID: box.ID, Name: name})
	return found != nil && *found, err
}

// ownFolder refuses a folder that was not made here, or that a rule names.
func (s *Service) ownFolder(ctx context.Context, tx pgx.Tx, box db.Mailbox, name string) error {
	own, err := q(tx).ListOwnFolders(ctx, db.ListOwnFoldersParams{TenantID: box.TenantID, MailboxID: box.ID})
	if err != nil {
		return err
	}
	if !slices.Contains(own, name) {
		return noFolder(name)
	}
	policy, err := policyOf(ctx, tx, box)
	if err != nil {
		return err
	}
	used := box.OrdinaryFolder == name || slices.ContainsFunc(policy.GetRules(), func(r *pecv1.MailRule) bool { return r.GetFolder() == name })
	if used {
		return fault.Precondition("FOLDER_IN_RULE", "a rule of the mailbox moves mail into %q: change the rule first", name)
	}
	return nil
}

// RenameFolder gives a folder made here another name.
func (s *Service) RenameFolder(ctx context.Context, req *pecv1.RenameFolderRequest) (*pecv1.Folder, error) {
	out := &pecv1.Folder{Name: strings.TrimSpace(req.GetNewName()), Own: true}
	err := s.at(ctx, req.GetParent(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		err := s.ownFolder(ctx, tx, box, req.GetFolder())
		if err == nil {
			err = s.makeFolder(ctx, tx, box, out.GetName())
		}
		if err != nil {
			return err
		}
		out.Messages, err = q(tx).EmptyFolder(ctx, db.EmptyFolderParams{TenantID: box.TenantID, MailboxID: box.ID, Name: req.GetFolder(), NewName: out.GetName()})
		if err == nil {
			_, err = q(tx).DropFolder(ctx, db.DropFolderParams{TenantID: box.TenantID, MailboxID: box.ID, Name: req.GetFolder()})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// DeleteFolder removes a folder made here that is empty.
func (s *Service) DeleteFolder(ctx context.Context, req *pecv1.DeleteFolderRequest) (*emptypb.Empty, error) {
	err := s.at(ctx, req.GetParent(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		err := s.ownFolder(ctx, tx, box, req.GetFolder())
		if err != nil {
			return err
		}
		_, err = q(tx).DropFolder(ctx, db.DropFolderParams{TenantID: box.TenantID, MailboxID: box.ID, Name: req.GetFolder()})
		if err != nil {
			return err
		}
		left, err := folderExists(ctx, tx, box, req.GetFolder())
		if err == nil && left {
			err = fault.Precondition("FOLDER_NOT_EMPTY", "%q is not empty: move its messages first", req.GetFolder())
		}
		return err
	})
	return &emptypb.Empty{}, err
}

// MoveMessages puts messages into a folder, all or none.
func (s *Service) MoveMessages(ctx context.Context, req *pecv1.MoveMessagesRequest) (*pecv1.MoveMessagesResponse, error) {
	out := &pecv1.MoveMessagesResponse{}
	err := s.at(ctx, req.GetParent(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		ids, err := s.messagesIn(ctx, tx, box, req.GetMessages())
		if err != nil {
			return err
		}
		exists, err := folderExists(ctx, tx, box, req.GetFolder())
		if err != nil {
			return err
		}
		if !exists {
			return noFolder(req.GetFolder())
		}
		n, err := q(tx).MoveMessages(ctx, db.MoveMessagesParams{TenantID: box.TenantID, MailboxID: box.ID, Ids: ids, Folder: req.GetFolder()})
		out.Moved = int32(n) //nolint:gosec // at most a thousand
		if err != nil || n == 0 {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "message.move", Resource: req.GetParent(), Detail: map[string]string{
			"folder": req.GetFolder(), "messages": shortList(req.GetMessages())}})
	})
	return out, err
}

// shortList names what a record names: the ids of messages, or the first ones of many.
func shortList(names []string) string {
	var ids []string
	for _, n := range names[:min(len(names), 20)] {
		ids = append(ids, n[strings.LastIndexByte(n, '/')+1:])
	}
	if len(names) > len(ids) {
		ids = append(ids, "...")
	}
	return strings.Join(ids, " ")
}

// messagesIn are the ids of messages that are all in the mailbox. Faults: NotFound MESSAGE_NOT_FOUND.
func (s *Service) messagesIn(ctx context.Context, tx pgx.Tx, box db.Mailbox, names []string) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	for _, name := range names {
		tenant, mailbox, id, err := splitMessage(name)
		if err != nil {
			return nil, err
		}
		if tenant != box.TenantID || mailbox != box.ID {
			return nil, s.guessed(ctx, tx, box, noMessage(name), id)
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	n, err := q(tx).MessagesIn(ctx, db.MessagesInParams{TenantID: box.TenantID, MailboxID: box.ID, Ids: ids})
	if err != nil || int(n) == len(ids) {
		return ids, err
	}
	return nil, s.guessed(ctx, tx, box, fault.NotFound("MESSAGE_NOT_FOUND", "%d of the %d messages are not in the mailbox, or in quarantine: nothing was done", len(ids)-int(n), len(ids)), ids...)
}
