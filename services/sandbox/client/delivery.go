package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// DeliveryRequest orders a passive invoice: SdI delivers it to whoever receives for RecipientCode.
type DeliveryRequest struct {
	RecipientCode string `json:"recipient_code"`    // registered by an accreditation; 0000000 when empty and to_pec is given
	ToPEC         string `json:"to_pec,omitempty"`  // bring it by certified mail to this mailbox instead
	Name          string `json:"name,omitempty"`    // file name; made up when empty
	ID            string `json:"id,omitempty"`      // IdentificativoSdI; the next one when empty. One that was given out is used again
	File          []byte `json:"file,omitempty"`    // any bytes; a small valid invoice when empty
	Invoice       *Small `json:"invoice,omitempty"` // what the small invoice says
}

// Small chooses the fields of the built-in invoice; zero fields have defaults.
type Small struct {
	Number       string `json:"number,omitempty"`
	DocumentType string `json:"document_type,omitempty"` // TD01
	Bodies       int    `json:"bodies,omitempty"`        // a lot of so many documents; 1
	SellerVAT    string `json:"seller_vat,omitempty"`    // country first
	BuyerVAT     string `json:"buyer_vat,omitempty"`     // country first
	BuyerTaxCode string `json:"buyer_tax_code,omitempty"`
	PEC          string `json:"pec,omitempty"`
	FileCode     string `json:"file_code,omitempty"` // CodiceDestinatario in the file; RecipientCode when empty
}

// Delivery is a passive invoice on its way, and what became of it.
type Delivery struct {
	ID            string     `json:"id"`
	Name          string     `json:"name"`
	RecipientCode string     `json:"recipient_code"`
	Receiver      string     `json:"receiver"` // fiscal id
	Format        string     `json:"format"`
	Outside       bool       `json:"outside"` // made by the control API; false: sent by a transmitter
	State         string     `json:"state"`   // pending, delivered, given_up
	Attempts      int        `json:"attempts"`
	DeliveredAt   *time.Time `json:"delivered_at,omitempty"`
	Expired       bool       `json:"expired,omitempty"`    // DT was issued
	NoticeAt      *time.Time `json:"notice_at,omitempty"`  // DT taken by the receiver
	LastError     string     `json:"last_error,omitempty"` // of the latest attempt
	Outcomes      []Outcome  `json:"outcomes,omitempty"`   // those that were taken
	Refusals      int        `json:"refusals,omitempty"`   // outcomes answered with ES00
	Calls         int        `json:"calls,omitempty"`      // NotificaEsito calls about it
}

// Outcome is one that SdI took.
type Outcome struct {
	Position    int    `json:"position"` // 1 for the first document; 0: the whole file
	Outcome     string `json:"outcome"`  // EC01, EC02
	Description string `json:"description,omitempty"`
	Name        string `json:"name"`
}

// Deliver orders a passive invoice. It does not wait for the delivery: see Deliveries.
func (c *Client) Deliver(ctx context.Context, r DeliveryRequest) (Delivery, error) {
	var d Delivery
	err := c.do(ctx, http.MethodPost, "/v1/deliveries", r, &d)
	return d, err
}

// Deliveries lists passive invoices, oldest first; id "" for all.
func (c *Client) Deliveries(ctx context.Context, id string) ([]Delivery, error) {
	var out []Delivery
	err := c.do(ctx, http.MethodGet, "/v1/deliveries?id="+url.QueryEscape(id), nil, &out)
	return out, err
}

// Redeliver hands a passive invoice over once more, with the next TentativiInvio.
func (c *Client) Redeliver(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, "/v1/deliveries/"+url.PathEscape(id)+"/redeliver", struct{}{}, nil)
}
