package invoice

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"ceralacca.dev/proto/catalog"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/invoice/internal/db"
)

// invoiceFilter turns a filter of ListInvoices into the conditions of its query.
func invoiceFilter(filter string) (db.ListInvoicesParams, error) {
	var p db.ListInvoicesParams
	conditions, err := parseFilter(filter)
	if err != nil {
		return p, err
	}
	texts := map[string]**string{"number": &p.Number, "sdi_id": &p.SdiID, "file_name": &p.FileName,
		"external_id": &p.ExternalID, "buyer_vat_number": &p.BuyerVatNumber}
	for _, c := range conditions {
		switch {
		case texts[c.field] != nil:
			err = equals(texts[c.field], c)
		case c.field == "state":
			err = narrowStates(&p, c)
		case c.field == "issue_date":
			err = narrowDates(&p, c)
		case c.field == "create_time":
			err = narrowTimes(&p, c)
		default:
			fields := append(slices.Sorted(maps.Keys(texts)), "state", "issue_date", "create_time")
			err = filterFault(c.at, "there is no field %q; there are %s", c.field, strings.Join(fields, ", "))
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// equals sets the value that a field must have.
func equals(dst **string, c condition) error {
	if c.op != "=" {
		return filterFault(c.at, "%s can be compared with = only", c.field)
	}
	if *dst != nil && **dst != c.value {
		return filterFault(c.at, "%s is given twice, with different values", c.field)
	}
	*dst = &c.value
	return nil
}

// narrowStates keeps the states that the condition allows, written with or without INVOICE_STATE_.
func narrowStates(p *db.ListInvoicesParams, c condition) error {
	const prefix = "INVOICE_STATE_"
	number, ok := invoicev1.InvoiceState_value[prefix+strings.TrimPrefix(strings.ToUpper(c.value), prefix)]
	if !ok {
		var known []string
		for name, number := range invoicev1.InvoiceState_value {
			if number != 0 {
				known = append(known, strings.TrimPrefix(name, prefix))
			}
		}
		slices.Sort(known)
		return filterFault(c.at, "there is no state %q; there are %s", c.value, strings.Join(known, ", "))
	}
	if c.op != "=" && c.op != "!=" {
		return filterFault(c.at, "state can be compared with = and != only")
	}
	if p.States == nil {
		for n := range invoicev1.InvoiceState_name {
			p.States = append(p.States, int16(n))
		}
		slices.Sort(p.States)
	}
	p.States = slices.DeleteFunc(p.States, func(s int16) bool { return (s == int16(number)) != (c.op == "=") })
	return nil
}

func narrowDates(p *db.ListInvoicesParams, c condition) error {
	day, err := time.Parse(time.DateOnly, c.value)
	if err != nil {
		return filterFault(c.at, "issue_date: %q is no date; write it as \"2026-03-31\"", c.value)
	}
	from, to, err := bounds(c, day, 24*time.Hour)
	if err != nil {
		return err
	}
	if from != nil {
		p.IssuedFrom = laterText(p.IssuedFrom, from.Format(time.DateOnly), 1)
	}
	if to != nil {
		p.IssuedTo = laterText(p.IssuedTo, to.Format(time.DateOnly), -1)
	}
	return nil
}

func narrowTimes(p *db.ListInvoicesParams, c condition) error {
	at, err := time.Parse(time.RFC3339, c.value)
	if err != nil {
		return filterFault(c.at, "create_time: %q is no time; write it as \"2026-03-31T09:00:00Z\"", c.value)
	}
	from, to, err := bounds(c, at, time.Microsecond)
	if err != nil {
		return err
	}
	if from != nil && (p.CreatedFrom == nil || from.After(*p.CreatedFrom)) {
		p.CreatedFrom = from
	}
	if to != nil && (p.CreatedTo == nil || to.Before(*p.CreatedTo)) {
		p.CreatedTo = to
	}
	return nil
}

// bounds gives the inclusive ends of what a comparison allows; step is the distance between
// neighbouring values.
func bounds(c condition, v time.Time, step time.Duration) (from, to *time.Time, err error) {
	before, after := v.Add(-step), v.Add(step)
	switch c.op {
	case "=":
		return &v, &v, nil
	case ">=":
		return &v, nil, nil
	case ">":
		return &after, nil, nil
	case "<=":
		return nil, &v, nil
	case "<":
		return nil, &before, nil
	}
	return nil, nil, filterFault(c.at, "%s cannot be compared with %s", c.field, c.op)
}

// laterText keeps the later (sign 1) or the earlier (sign -1) of two ISO dates.
func laterText(have *string, v string, sign int) *string {
	if have != nil && strings.Compare(*have, v)*sign >= 0 {
		return have
	}
	return &v
}

// eventFilter turns a filter of the log into the conditions of its query.
func eventFilter(filter, tenant string) (db.ListEventsParams, error) {
	var p db.ListEventsParams
	conditions, err := parseFilter(filter)
	if err != nil {
		return p, err
	}
	for _, c := range conditions {
		switch c.field {
		case "type":
			err = logged(c)
			if err == nil {
				err = equals(&p.Type, c)
			}
		case "invoice":
			err = oneInvoice(&p.InvoiceID, c, tenant)
		default:
			err = filterFault(c.at, "there is no field %q; there are invoice and type", c.field)
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// elsewhere says of types of notices that stand in no line of the log where their facts are read. The log is read by whoever may read
// invoices, and may not be told of mailboxes, credentials and signature requests, whose own lists ask who may see each.
var elsewhere = []struct{ prefix, where string }{
	{"pec.", "what happens in mailboxes is in their own log, ceralacca pec log, for those who may read each"},
	{"credential.", "ceralacca credential ls and get have the credentials and their state"},
	{"signature_request.", "ceralacca request show has what happened to a request"},
	{"preservation.log_stated", "ceralacca conserve log has the log of the archive"},
}

// logged refuses a type that no line of the log has: an empty answer would pass for nothing having happened.
func logged(c condition) error {
	var types []string
	for _, t := range catalog.NoticeTypes() {
		i := slices.IndexFunc(elsewhere, func(e struct{ prefix, where string }) bool { return strings.HasPrefix(t, e.prefix) })
		switch {
		case i < 0:
			types = append(types, t)
		case t == c.value:
			return filterFault(c.at, "%s is told by webhook and by mail and stands in no line of this log, which is that of invoices: %s", t, elsewhere[i].where)
		}
	}
	if !slices.Contains(types, c.value) {
		return filterFault(c.at, "there is no type %q; there are %s", c.value, strings.Join(types, ", "))
	}
	return nil
}

func oneInvoice(dst **uuid.UUID, c condition, tenant string) error {
	n, err := parseName(c.value)
	if err != nil || n.String() != c.value || n.tenant != tenant {
		return filterFault(c.at, "%q is no invoice of tenants/%s", c.value, tenant)
	}
	if c.op != "=" {
		return filterFault(c.at, "invoice can be compared with = only")
	}
	if *dst != nil && **dst != n.id {
		return filterFault(c.at, "invoice is given twice, with different values")
	}
	*dst = &n.id
	return nil
}
