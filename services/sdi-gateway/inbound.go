package sdigateway

import (
	"context"
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// inboundBlobs is under whom received bytes are kept before it is known whose they are. No tenant can be
// called so: tenants begin with a letter.
const inboundBlobs = "0inbound"

// inboundArrival is a file as a channel delivered it, not looked at yet.
type inboundArrival struct {
	channel      string
	sdiID        string
	fileName     string
	file         []byte
	metadataName string
	metadata     []byte // none when SdI sent none

	at   time.Time                                  // when it came; zero: now
	with func(ctx context.Context, tx pgx.Tx) error // done in the transaction that takes it, first; nil: nothing
	// delivery is set by a channel that may hand the same delivery in twice; a new one when nil.
	delivery uuid.UUID
}

// readInboundArgs is the promise to understand one delivery.
type readInboundArgs struct {
	Delivery uuid.UUID `json:"delivery"`
}

// Kind names the job in the database.
func (readInboundArgs) Kind() string { return "sdi_read_inbound" }

// readNoticeArgs is the promise to understand one notice to a receiver.
type readNoticeArgs struct {
	Notice uuid.UUID `json:"notice"`
}

// Kind names the job in the database.
func (readNoticeArgs) Kind() string { return "sdi_read_inbound_notice" }

// startInbound wires the reception, when the configuration asks for it.
func (s *Service) startInbound(h *run.Host) error {
	in := s.cfg.Inbound
	sdiv1.RegisterInboundServiceServer(h.RPC, &inbound{Service: s})
	if in.on() || s.cfg.FTP.Listen != "" && s.cfg.FTP.Receive {
		s.tenancy = tenancyv1.NewTenancyServiceClient(h.Dial("tenancy"))
	}
	s.outcomes = h.Breaker("sdi-outcome")
	run.Work(h, run.WorkOptions{Workers: 8, MaxAttempts: 50}, s.readInbound)
	run.Work(h, run.WorkOptions{Workers: 2, MaxAttempts: 50}, s.readNotice)
	run.Work(h, run.WorkOptions{Workers: 4, Timeout: s.cfg.CallTimeout + 15*time.Second, MaxAttempts: 50}, s.sendOutcome)
	if in.NotifyEndpoint != "" {
		s.notify = &sdi.Client{HTTP: s.client.HTTP, URL: in.NotifyEndpoint}
	}
	if in.Listen == "" {
		return nil
	}
	listener, err := s.listenAt("inbound", in.Listen, in.CertFile, in.KeyFile)
	if err != nil {
		return err
	}
	handler := s.reception()
	if in.Path != "" {
		mux := http.NewServeMux()
		mux.Handle(in.Path, handler)
		handler = mux
	}
	h.Go("inbound listener", func(ctx context.Context) error { return s.serve(ctx, "inbound", listener, handler) })
	return nil
}

// reception serves RicezioneFatture.
func (s *Service) reception() http.Handler {
	return sdi.RicezioneFattureHandler(s.receiveInvoice, s.receiveNotice, sdi.ServerOptions{
		Answer: sdi.XOP, Refused: s.door.request,
	})
}

// receiveInvoice takes one delivery in. ER01 goes out only when nil is returned: the bytes and the row that
// names them survive a power cut then. Nothing is understood here, so nothing can be refused for its content.
func (s *Service) receiveInvoice(r *http.Request, f sdi.FileSdIConMetadati) error {
	err := s.takeInbound(r.Context(), inboundArrival{
		channel: channelCoop, sdiID: f.IdentificativoSdI, fileName: f.NomeFile, file: f.File,
		metadataName: f.NomeFileMetadati, metadata: f.Metadati,
	})
	if err != nil {
		s.log.ErrorContext(r.Context(), "a file of SdI was not taken in; SdI will deliver it again", "sdi_id", f.IdentificativoSdI, "file", f.NomeFile, "error", err)
		return &sdi.Fault{Code: "Server", String: "the file could not be stored, deliver it again"}
	}
	return nil
}

// takeInbound makes a delivery durable: first the bytes, then the rows that name them together with the
// promise to read them. A crash in between leaves bytes without a row, which the next delivery finds again.
func (s *Service) takeInbound(ctx context.Context, a inboundArrival) error {
	var file, metadata blob.Ref
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		file, err = s.blobs.Put(gctx, inboundBlobs, a.file)
		return err
	})
	if len(a.metadata) > 0 {
		g.Go(func() (err error) {
			metadata, err = s.blobs.Put(gctx, inboundBlobs, a.metadata)
			return err
		})
	}
	err := g.Wait()
	if err != nil {
		return err
	}
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	delivery := a.delivery
	if delivery == uuid.Nil {
		delivery, err = pg.NewID()
		if err != nil {
			return err
		}
	}
	metadataURI := ""
	if len(a.metadata) > 0 {
		metadataURI = metadata.URI()
	}
	now := pg.Time(s.now())
	if !a.at.IsZero() {
		now = pg.Time(a.at)
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if a.with != nil {
			err := a.with(ctx, tx)
			if err != nil {
				return err
			}
		}
		if a.channel == channelFTP && a.sdiID != "" {
			err := db.New(tx).NameInboundFile(ctx, db.NameInboundFileParams{SdiID: a.sdiID, FileName: a.fileName, Sha256: file.SHA256[:]})
			if err != nil {
				return err
			}
		}
		taken, err := db.New(tx).TakeInboundFile(ctx, db.TakeInboundFileParams{
			ID: id, Channel: a.channel, SdiID: a.sdiID, FileName: a.fileName, Sha256: file.SHA256[:], FileUri: file.URI(),
			MetadataName: a.metadataName, MetadataUri: metadataURI, ReceivedAt: now,
		})
		if err != nil {
			return err
		}
		err = db.New(tx).InsertInboundDelivery(ctx, db.InsertInboundDeliveryParams{
			ID: delivery, TenantID: taken.TenantID, FileID: taken.ID, MetadataName: a.metadataName, MetadataUri: metadataURI, ReceivedAt: now,
		})
		if err != nil {
			return err
		}
		return s.jobs.InsertTx(ctx, tx, readInboundArgs{Delivery: delivery}, nil)
	})
}

// receiveNotice takes the notice in that a term has expired, raw first as everything of SdI.
func (s *Service) receiveNotice(r *http.Request, f sdi.FileSdI) error {
	err := s.takeNotice(r.Context(), f)
	if err != nil {
		s.log.ErrorContext(r.Context(), "a notice of SdI was not taken in; SdI will send it again", "sdi_id", f.IdentificativoSdI, "error", err)
		return &sdi.Fault{Code: "Server", String: "the notice could not be stored, send it again"}
	}
	return nil
}

func (s *Service) takeNotice(ctx context.Context, f sdi.FileSdI) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error { return s.saveNotice(ctx, tx, f, s.now()) })
}

// saveNotice keeps a notice and promises to read it; the same notice again only counts.
func (s *Service) saveNotice(ctx context.Context, tx pgx.Tx, f sdi.FileSdI, at time.Time) error {
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(f.File)
	raw := f.File
	if raw == nil {
		raw = []byte{}
	}
	saved, err := db.New(tx).SaveInboundNotice(ctx, db.SaveInboundNoticeParams{
		ID: id, SdiID: f.IdentificativoSdI, FileName: f.NomeFile, Sha256: sum[:], Raw: raw, ReceivedAt: pg.Time(at),
	})
	if err != nil || !saved.First {
		return err
	}
	return s.jobs.InsertTx(ctx, tx, readNoticeArgs{Notice: saved.ID}, nil)
}
