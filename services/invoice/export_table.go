package invoice

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa"
)

// byteOrderMark begins the CSV files: spreadsheets take UTF-8 for something else without it.
const byteOrderMark = "\ufeff"

// csvExport writes rows as RFC 4180 has them: comma, CRLF, quotes where needed; amounts with a decimal
// point. A text that a spreadsheet would take for a formula gets an apostrophe before it.
type csvExport struct {
	csv  *csv.Writer
	rows func(d *exportedDocument) [][]string
}

func newCSVExport(kind invoicev1.ExportKind, out io.Writer) (*csvExport, error) {
	if _, err := io.WriteString(out, byteOrderMark); err != nil {
		return nil, err
	}
	c := &csvExport{csv: csv.NewWriter(out)}
	c.csv.UseCRLF = true
	head := documentColumns
	switch kind {
	case invoicev1.ExportKind_EXPORT_KIND_LINES_CSV:
		head, c.rows = append(head[:keyColumns:keyColumns], lineColumns...), (*exportedDocument).lineRows
	case invoicev1.ExportKind_EXPORT_KIND_VAT_CSV:
		head, c.rows = append(head[:keyColumns:keyColumns], summaryColumns...), (*exportedDocument).summaryRows
	default:
		c.rows = func(d *exportedDocument) [][]string { return [][]string{append(d.key(), d.rest()...)} }
	}
	return c, c.csv.Write(head)
}

func (c *csvExport) add(_ context.Context, e *exported) error {
	for _, d := range documentsOf(e) {
		for _, row := range c.rows(d) {
			if err := c.csv.Write(cells(row...)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *csvExport) close() error {
	c.csv.Flush()
	return c.csv.Error()
}

var number = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

// cells takes what could be a formula out of the cells. spec: OWASP CSV Injection
func cells(row ...string) []string {
	for i, s := range row {
		if s != "" && strings.ContainsAny(string([]rune(s)[:1]), "=+-@\t\r\n＝＋－＠") && !number.MatchString(s) {
			row[i] = "'" + s
		}
	}
	return row
}

// jsonExport writes one JSON object on each line.
type jsonExport struct{ encoder *json.Encoder }

func newJSONExport(out io.Writer) *jsonExport {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return &jsonExport{e}
}

func (j *jsonExport) add(_ context.Context, e *exported) error {
	for _, d := range documentsOf(e) {
		if err := j.encoder.Encode(d); err != nil {
			return err
		}
	}
	return nil
}

func (j *jsonExport) close() error { return nil }

// exportedDocument is one document of a file as accounting wants it. Amounts are decimal texts; empty where
// the document says nothing.
type exportedDocument struct {
	Invoice       string            `json:"invoice"`
	Document      int               `json:"document"` // place in its file, from 1
	State         string            `json:"state"`
	Format        string            `json:"format"`
	DocumentType  string            `json:"document_type"`
	Number        string            `json:"number"`
	IssueDate     string            `json:"issue_date"`
	Currency      string            `json:"currency"`
	Seller        exportedParty     `json:"seller"`
	Buyer         exportedParty     `json:"buyer"`
	RecipientCode string            `json:"recipient_code"`
	Taxable       string            `json:"taxable"`
	Tax           string            `json:"tax"`
	Total         string            `json:"total"`
	Withholding   string            `json:"withholding"`
	StampDuty     string            `json:"stamp_duty"`
	Rounding      string            `json:"rounding"`
	Cause         string            `json:"cause"`
	SdiID         string            `json:"sdi_id"`
	FileName      string            `json:"file_name"`
	ExternalID    string            `json:"external_id"`
	CreateTime    string            `json:"create_time"`
	PreserveTime  string            `json:"preserve_time"`
	Lines         []exportedLine    `json:"lines"`
	Summaries     []exportedSummary `json:"summaries"`
}

type exportedParty struct {
	VATNumber string `json:"vat_number"`
	TaxCode   string `json:"tax_code"`
	Name      string `json:"name"`
}

type exportedLine struct {
	Number      string `json:"number"`
	Kind        string `json:"kind"`
	Code        string `json:"code"`
	Description string `json:"description"`
	Quantity    string `json:"quantity"`
	Unit        string `json:"unit"`
	UnitPrice   string `json:"unit_price"`
	Total       string `json:"total"`
	VATRate     string `json:"vat_rate"`
	Nature      string `json:"nature"`
	From        string `json:"period_start"`
	To          string `json:"period_end"`
	Reference   string `json:"administrative_reference"`
}

type exportedSummary struct {
	VATRate        string `json:"vat_rate"`
	Nature         string `json:"nature"`
	Taxable        string `json:"taxable"`
	Tax            string `json:"tax"`
	Collectability string `json:"collectability"`
	Legal          string `json:"legal_reference"`
	Expenses       string `json:"ancillary_expenses"`
	Rounding       string `json:"rounding"`
}

// keyColumns are the first of documentColumns: what lines and summaries repeat of their document.
const keyColumns = 12

var (
	documentColumns = []string{"invoice", "document", "state", "document_type", "number", "issue_date", "currency",
		"seller_vat_number", "seller_tax_code", "seller_name", "buyer_vat_number", "buyer_name",
		"buyer_tax_code", "format", "recipient_code", "taxable", "tax", "total", "withholding", "stamp_duty", "rounding", "cause",
		"sdi_id", "file_name", "external_id", "create_time", "preserve_time"}
	lineColumns = []string{"line", "kind", "code", "description", "quantity", "unit", "unit_price", "line_total", "vat_rate", "nature",
		"period_start", "period_end", "administrative_reference"}
	summaryColumns = []string{"vat_rate", "nature", "taxable", "tax", "collectability", "legal_reference", "ancillary_expenses", "rounding"}
)

func (d *exportedDocument) key() []string {
	return []string{d.Invoice, strconv.Itoa(d.Document), d.State, d.DocumentType, d.Number, d.IssueDate, d.Currency,
		d.Seller.VATNumber, d.Seller.TaxCode, d.Seller.Name, d.Buyer.VATNumber, d.Buyer.Name}
}

func (d *exportedDocument) rest() []string {
	return []string{d.Buyer.TaxCode, d.Format, d.RecipientCode, d.Taxable, d.Tax, d.Total, d.Withholding, d.StampDuty, d.Rounding, d.Cause,
		d.SdiID, d.FileName, d.ExternalID, d.CreateTime, d.PreserveTime}
}

func (d *exportedDocument) lineRows() [][]string {
	rows := make([][]string, 0, len(d.Lines))
	for _, l := range d.Lines {
		rows = append(rows, append(d.key(), l.Number, l.Kind, l.Code, l.Description, l.Quantity, l.Unit, l.UnitPrice, l.Total, l.VATRate, l.Nature,
			l.From, l.To, l.Reference))
	}
	return rows
}

func (d *exportedDocument) summaryRows() [][]string {
	rows := make([][]string, 0, len(d.Summaries))
	for _, s := range d.Summaries {
		rows = append(rows, append(d.key(), s.VATRate, s.Nature, s.Taxable, s.Tax, s.Collectability, s.Legal, s.Expenses, s.Rounding))
	}
	return rows
}

// documentsOf lists the documents of an invoice file.
func documentsOf(e *exported) []*exportedDocument {
	r := e.row
	out := make([]*exportedDocument, 0, len(e.bodies))
	for i, b := range e.bodies {
		d := &exportedDocument{
			Invoice: nameOf(r).String(), Document: i + 1, State: stateName(r), Format: r.Format,
			DocumentType: b.Type, Number: b.Number, IssueDate: b.Date, Currency: b.Currency, Total: b.Total,
			Seller:        exportedParty{r.SellerVatNumber, r.SellerTaxCode, r.SellerName},
			Buyer:         exportedParty{r.BuyerVatNumber, r.BuyerTaxCode, r.BuyerName},
			RecipientCode: r.RecipientCode, SdiID: r.SdiID, FileName: r.FileName, ExternalID: r.ExternalID,
			CreateTime: r.CreateTime.UTC().Format(time.RFC3339), Lines: []exportedLine{}, Summaries: []exportedSummary{},
		}
		if r.PreserveTime != nil {
			d.PreserveTime = r.PreserveTime.UTC().Format(time.RFC3339)
		}
		if e.file != nil {
			d.fill(&e.file.Bodies[i])
		}
		out = append(out, d)
	}
	return out
}

// fill adds what only the file says.
func (d *exportedDocument) fill(b *fatturapa.Body) {
	g := b.Documento()
	d.Rounding, d.Cause = text(g.Arrotondamento), strings.Join(g.Causale, " ")
	if g.DatiBollo != nil {
		d.StampDuty = text(g.DatiBollo.ImportoBollo)
	}
	var kept, taxable, tax sum
	for i := range g.DatiRitenuta {
		kept.add(g.DatiRitenuta[i].ImportoRitenuta)
	}
	for i := range b.DatiBeniServizi.DettaglioLinee {
		l := &b.DatiBeniServizi.DettaglioLinee[i]
		line := exportedLine{Number: strconv.Itoa(l.NumeroLinea), Kind: l.TipoCessionePrestazione, Description: l.Descrizione, Quantity: text(l.Quantita),
			Unit: l.UnitaMisura, UnitPrice: text(l.PrezzoUnitario), Total: text(l.PrezzoTotale), VATRate: text(l.AliquotaIVA), Nature: l.Natura,
			From: string(l.DataInizioPeriodo), To: string(l.DataFinePeriodo), Reference: l.RiferimentoAmministrazione}
		if len(l.CodiceArticolo) > 0 {
			line.Code = l.CodiceArticolo[0].CodiceValore
		}
		d.Lines = append(d.Lines, line)
	}
	for i := range b.DatiBeniServizi.DatiRiepilogo {
		s := &b.DatiBeniServizi.DatiRiepilogo[i]
		taxable.add(s.ImponibileImporto)
		tax.add(s.Imposta)
		d.Summaries = append(d.Summaries, exportedSummary{VATRate: text(s.AliquotaIVA), Nature: s.Natura, Taxable: text(s.ImponibileImporto), Tax: text(s.Imposta),
			Collectability: s.EsigibilitaIVA, Legal: s.RiferimentoNormativo, Expenses: text(s.SpeseAccessorie), Rounding: text(s.Arrotondamento)})
	}
	d.Withholding, d.Taxable, d.Tax = kept.String(), taxable.String(), tax.String()
	if len(b.BeniServizi) > 0 {
		d.fillSimplified(b)
	}
}

// fillSimplified reads the lines of a simplified invoice, whose amounts include the tax.
func (d *exportedDocument) fillSimplified(b *fatturapa.Body) {
	var total, tax sum
	for i := range b.BeniServizi {
		l := &b.BeniServizi[i]
		total.add(l.Importo)
		tax.add(l.Imposta)
		d.Lines = append(d.Lines, exportedLine{Number: strconv.Itoa(i + 1), Description: l.Descrizione, Total: text(l.Importo), VATRate: text(l.Aliquota), Nature: l.Natura})
		d.Summaries = append(d.Summaries, exportedSummary{VATRate: text(l.Aliquota), Nature: l.Natura, Tax: text(l.Imposta), Legal: l.RiferimentoNormativo})
	}
	d.Tax = tax.String()
	if d.Total == "" {
		d.Total = total.String()
	}
}

// text writes an amount as the file has it; empty when it says nothing.
func text(d fatturapa.Decimal) string {
	if !d.Valid() {
		return ""
	}
	return d.String()
}

// sum adds amounts that are there; empty when none is, or when they are too large to add.
type sum struct {
	total fatturapa.Decimal
	broke bool
}

func (s *sum) add(d fatturapa.Decimal) {
	if !d.Valid() {
		return
	}
	if !s.total.Valid() {
		s.total = d
		return
	}
	total, ok := s.total.Add(d)
	s.total, s.broke = total, s.broke || !ok
}

// String is the total; empty when there is none.
func (s *sum) String() string {
	if s.broke {
		return ""
	}
	return text(s.total)
}
