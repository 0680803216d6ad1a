package main

import (
	"context"
	_ "embed" // the data of an invoice
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/sandbox/client"
)

func demoCommand() *cobra.Command {
	var out, dir, level string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Take one invoice through the whole platform and leave its documents in out/",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := stateDir(dir, "demo")
			if err != nil {
				return err
			}
			if out == "" {
				root, err := devenv.Root()
				if err != nil {
					return err
				}
				out = filepath.Join(root, "out")
			}
			d := &demo{out: out, begun: time.Now()}
			return d.run(cmd.Context(), worldOptions{dir: state, database: "ceralacca_demo", fresh: true, progress: os.Stderr}, level)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "folder for the documents (default: out in the checkout)")
	cmd.Flags().StringVar(&dir, "dir", "", "folder that keeps the servers' files (default: .cache/demo of the checkout)")
	cmd.Flags().StringVar(&level, "log", "error", "log level of the services, shown on standard error")
	return cmd
}

// demo is one journey and the time it began.
type demo struct {
	out      string
	begun    time.Time
	world    *world
	customer *customer
	receiver *receiver
	invoice  *invoicev1.Invoice
	saved    []string
}

func (d *demo) say(format string, a ...any) {
	fmt.Printf("%6.2fs  %s\n", time.Since(d.begun).Seconds(), fmt.Sprintf(format, a...))
}

func (d *demo) run(ctx context.Context, o worldOptions, level string) (err error) {
	err = tidy(d.out)
	if err != nil {
		return fmt.Errorf("folder for the documents: %w", err)
	}
	fmt.Println("Ceralacca demo. Nothing here is real: certificates say SANDBOX, SdI is played by the sandbox.")
	d.world, err = newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		closeErr := d.world.close()
		if err == nil {
			err = closeErr
		}
	}()
	d.say("PostgreSQL, Vault and the sandbox are up")
	p, err := d.world.startPlatform(ctx, platformOptions{level: level, log: os.Stderr})
	if err != nil {
		return err
	}
	defer p.stop()
	d.say("six services and tenancy are ready, one process, NATS JetStream inside")
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err = d.prepare(ctx)
	if err == nil {
		err = d.journey(ctx)
	}
	if err != nil {
		return err
	}
	return d.conclude()
}

// ours are the names that a demo gives, and those that its VERIFY.txt makes.
var ours = regexp.MustCompile(`^([1-9]-.*|sandbox-ca\.(pem|crl)|data\.json|VERIFY\.txt|checked(-index)?\.xml)$`)

// tidy makes the folder, and removes what a demo before left in it: nothing else that lies there.
func tidy(dir string) error {
	err := os.MkdirAll(dir, 0o755)
	if err != nil {
		return err
	}
	there, err := os.ReadDir(dir)
	for _, entry := range there {
		if err == nil && entry.Type().IsRegular() && ours.MatchString(entry.Name()) {
			err = os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
	return err
}

//go:embed data.json
var template string

// draft is the data of another invoice of today, without number: a series gives it one.
func draft() []byte {
	return []byte(strings.Replace(template, "TODAY", time.Now().Format(time.DateOnly), 1))
}

// prepare onboards the customer and its webhook receiver.
func (d *demo) prepare(ctx context.Context) error {
	var err error
	d.customer, err = d.world.onboard(ctx, signv1.KeyType_KEY_TYPE_EC_P256)
	if err != nil {
		return err
	}
	d.receiver, err = startReceiver()
	if err != nil {
		return err
	}
	d.receiver.secret, err = d.customer.subscribe(ctx, d.receiver.url, "contabilita@rossi.example")
	if err != nil {
		return err
	}
	d.say("customer onboarded: reseller, tenant, company %s, API key, signing key made in Vault and certified", companyVAT)
	return nil
}

func (d *demo) journey(ctx context.Context) error {
	defer d.customer.conn.Close()
	defer d.receiver.close()
	invoices := invoicev1.NewInvoiceServiceClient(d.customer.conn)
	xml := fatturapatest.Invoice(fatturapatest.Options{
		Numero: "2026/1", Data: time.Now().Format(time.DateOnly), CodiceDestinatario: "ABC1234",
		Cedente: fatturapatest.Party{Paese: "IT", Codice: companyVAT[2:], Denominazione: "Officine Rossi S.r.l."}, Lines: 3,
	})
	err := d.save("1-invoice.xml", xml)
	if err != nil {
		return err
	}
	created, err := invoices.CreateInvoice(ctx, &invoicev1.CreateInvoiceRequest{
		Parent: companyName, Content: xml, RequestId: uuid.NewString(),
	})
	if err != nil {
		return fmt.Errorf("create the invoice: %w", err)
	}
	d.invoice = created
	d.say("CreateInvoice answered: %s", created.GetName())
	err = d.follow(ctx, invoices)
	if err != nil {
		return err
	}
	err = d.saveDocuments(ctx, invoices)
	if err != nil {
		return err
	}
	err = d.savePackage(ctx)
	if err != nil {
		return err
	}
	return d.saveNotices(ctx)
}

// follow shows the event log as it grows, and closes the package once the archive has the document.
func (d *demo) follow(ctx context.Context, invoices invoicev1.InvoiceServiceClient) error {
	stream, err := invoices.StreamEvents(ctx, &invoicev1.StreamEventsRequest{Parent: tenantName})
	if err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("event log: %w", err)
		}
		event := answer.GetEvent()
		if event == nil || event.GetInvoice() != d.invoice.GetName() {
			continue
		}
		d.say("%s", strings.TrimRight(fmt.Sprintf("%-32s %s", event.GetType(), details(event)), " "))
		switch event.GetType() {
		case "invoice.rejected", "invoice.signing_failed", "invoice.transmission_failed":
			return fmt.Errorf("the journey ended early: %s", event.GetData())
		case "preservation.taken_in_charge":
			closed, err := conservationv1.NewConservationServiceClient(d.customer.conn).ClosePackage(ctx, &conservationv1.ClosePackageRequest{
				Parent: tenantName, FiscalYear: int32(time.Now().Year()),
			})
			if err != nil {
				return fmt.Errorf("close the package: %w", err)
			}
			d.say("ClosePackage answered: %s", closed.GetName())
		case "preservation.sealed":
			return nil
		}
	}
}

// details are the plain fields of an event.
func details(event *invoicev1.Event) string {
	var parts []string
	for _, key := range []string{"file_name", "sdi_id", "receipt_type", "package"} {
		value := event.GetData().GetFields()[key].GetStringValue()
		if value != "" {
			parts = append(parts, key+"="+value)
		}
	}
	return strings.Join(parts, " ")
}

func (d *demo) save(name string, content []byte) error {
	d.saved = append(d.saved, name)
	return os.WriteFile(filepath.Join(d.out, name), content, 0o644)
}

func (d *demo) saveDocuments(ctx context.Context, invoices invoicev1.InvoiceServiceClient) error {
	current, err := invoices.GetInvoice(ctx, &invoicev1.GetInvoiceRequest{Name: d.invoice.GetName()})
	if err != nil {
		return err
	}
	d.invoice = current
	for _, doc := range current.GetDocuments() {
		if doc.GetKind() == invoicev1.DocumentKind_DOCUMENT_KIND_ORIGINAL {
			continue
		}
		answer, err := invoices.GetDocument(ctx, &invoicev1.GetDocumentRequest{Name: doc.GetName()})
		if err != nil {
			return fmt.Errorf("document %s: %w", doc.GetName(), err)
		}
		name := "2-signed.xml.p7m"
		if doc.GetKind() == invoicev1.DocumentKind_DOCUMENT_KIND_RECEIPT {
			name = "3-receipt-" + doc.GetReceiptType() + filepath.Ext(doc.GetFileName())
		}
		err = d.save(name, answer.GetContent())
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) savePackage(ctx context.Context) error {
	archive := conservationv1.NewConservationServiceClient(d.customer.conn)
	for _, file := range []struct {
		name string
		file conservationv1.PackageFile
	}{
		{"4-package.zip", conservationv1.PackageFile_PACKAGE_FILE_ARCHIVE},
		{"5-PIndex.xml", conservationv1.PackageFile_PACKAGE_FILE_INDEX},
		{"6-PIndex.xml.p7m", conservationv1.PackageFile_PACKAGE_FILE_SIGNED_INDEX},
		{"7-PIndex.xml.p7m.tsr", conservationv1.PackageFile_PACKAGE_FILE_TIME_STAMP},
	} {
		stream, err := archive.DownloadPackageFile(ctx, &conservationv1.DownloadPackageFileRequest{Name: d.invoice.GetPackage(), File: file.file})
		if err != nil {
			return err
		}
		var content []byte
		for {
			part, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("%s of %s: %w", file.name, d.invoice.GetPackage(), err)
			}
			content = append(content, part.GetChunk()...)
		}
		err = d.save(file.name, content)
		if err != nil {
			return err
		}
	}
	return nil
}

// saveNotices waits for what the customer was told: the webhook of the sealed package comes last.
func (d *demo) saveNotices(ctx context.Context) error {
	hooks, err := d.receiver.await(ctx, "preservation.sealed")
	if err != nil {
		return err
	}
	err = d.save("8-webhooks.txt", []byte(hooks))
	if err != nil {
		return err
	}
	d.say("customer notified: %d webhooks, each signature checked", strings.Count(hooks, "webhook-id:"))
	control := client.New(d.world.sdi.ControlURL)
	for ctx.Err() == nil {
		mails, err := control.Mail(ctx, "contabilita@rossi.example")
		if err != nil {
			return err
		}
		if len(mails) > 0 {
			d.say("customer notified: e-mail %q", mails[0].Subject)
			err = d.save("9-mail.eml", []byte(mails[0].Data))
			if err != nil {
				return err
			}
			ca, err := control.CAPEM(ctx)
			if err != nil {
				return err
			}
			crl, err := control.CRL(ctx)
			if err != nil {
				return err
			}
			return errors.Join(d.save("sandbox-ca.pem", ca), d.save("sandbox-ca.crl", crl), d.save("data.json", draft()))
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("no e-mail came: %w", ctx.Err())
}

// conclude lists the documents and how to check them without us.
func (d *demo) conclude() error {
	d.say("journey finished: SdI id %s, file %s, trace %s", d.invoice.GetSdiId(), d.invoice.GetFileName(), d.invoice.GetTraceId())
	checks := `# Check them without us, in this folder (sh -ex VERIFY.txt does it):

  openssl cms -verify -cades -binary -inform DER -in 2-signed.xml.p7m -CAfile sandbox-ca.pem -purpose any -out checked.xml
  cmp checked.xml 1-invoice.xml
  openssl cms -verify -cades -binary -inform DER -in 6-PIndex.xml.p7m -CAfile sandbox-ca.pem -purpose any -out checked-index.xml
  openssl ts -verify -data 6-PIndex.xml.p7m -in 7-PIndex.xml.p7m.tsr -CAfile sandbox-ca.pem
`
	err := d.save("VERIFY.txt", []byte(checks))
	if err != nil {
		return err
	}
	fmt.Printf("\nDocuments in %s:\n", d.out)
	for _, name := range d.saved {
		info, err := os.Stat(filepath.Join(d.out, name))
		if err != nil {
			return err
		}
		fmt.Printf("  %8d  %s\n", info.Size(), name)
	}
	fmt.Printf("\n%s", checks)
	return nil
}
