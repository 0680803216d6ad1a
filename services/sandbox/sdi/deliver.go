package sdi

import (
	"context"
	"slices"
	"time"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox/client"
)

// SDICoop callbacks are tried six times, twelve hours apart.
// spec: SDICoop-T-3.2
const (
	deliveryAttempts = 6
	deliveryGap      = 12 * time.Hour
	heldAtMost       = 2 * time.Second // real time: a reordered receipt waits no longer for company
)

// dispatch sends a fresh receipt on its way, as its fault orders.
func (e *Exchange) dispatch(r *receipt) {
	switch r.order.Kind {
	case client.FaultDrop:
		e.mu.Lock()
		e.giveUp(r, "dropped on command")
		e.mu.Unlock()
		e.goOn(r)
	case client.FaultReorder:
		e.mu.Lock()
		e.held = append(e.held, r)
		e.mu.Unlock()
		time.AfterFunc(heldAtMost, func() { e.releaseHeld(r) })
		e.goOn(r)
	case client.FaultSlowNotice:
		time.AfterFunc(time.Duration(r.order.DelayMS)*time.Millisecond, func() {
			e.couriers.do(func(ctx context.Context) { e.attempt(ctx, r) })
		})
		e.goOn(r)
	default:
		e.couriers.do(func(ctx context.Context) { e.attempt(ctx, r) })
	}
}

// goOn starts the next message of the plan: the outside world does not wait until a
// transmitter has taken the one before, only until it was tried once.
func (e *Exchange) goOn(r *receipt) {
	e.mu.Lock()
	next := r.next
	r.next = nil
	e.mu.Unlock()
	if next != nil {
		next()
	}
}

// releaseHeld lets those of the receipts go that are held still.
func (e *Exchange) releaseHeld(receipts ...*receipt) {
	var free []*receipt
	e.mu.Lock()
	e.held = slices.DeleteFunc(e.held, func(r *receipt) bool {
		if !slices.Contains(receipts, r) {
			return false
		}
		free = append(free, r)
		return true
	})
	e.mu.Unlock()
	for _, r := range free {
		e.couriers.do(func(ctx context.Context) { e.attempt(ctx, r) })
	}
}

// attempt delivers a receipt once and plans the next attempt if that fails. It runs on a
// worker.
func (e *Exchange) attempt(ctx context.Context, r *receipt) {
	e.mu.Lock()
	overtaken := slices.Clone(e.held) // not those that are held only while this one is on its way
	node := r.file.node
	e.mu.Unlock()
	if node != nil { // it goes with the next support
		node.message(r)
		e.goOn(r)
		return
	}
	carry := e.post
	if r.file.tx.mail != nil {
		carry = func(_ context.Context, r *receipt) error { return e.mailReceipt(r) }
	}
	err := carry(ctx, r)
	if err == nil && r.order.Kind == client.FaultDuplicate {
		err = carry(ctx, r)
	}
	if err == nil {
		e.delivered(r)
	} else {
		e.mu.Lock()
		r.attempts++
		e.failed(r, err)
		e.mu.Unlock()
	}
	if err == nil && r.order.Kind != client.FaultReorder {
		e.releaseHeld(overtaken...)
	}
	e.goOn(r)
}

// failed notes a failed attempt and plans the next; mu held.
func (e *Exchange) failed(r *receipt, err error) {
	e.counts.CallbackErrors++
	r.lastError = err.Error()
	e.log.Warn("receipt not delivered", "name", r.name, "attempt", r.attempts, "error", err.Error())
	if r.attempts >= deliveryAttempts || r.deliveredAt != nil || r.givenUp {
		e.giveUp(r, r.lastError)
		return
	}
	// Counted from the attempt before, not from now: a clock that jumps three days ahead must
	// see all attempts.
	r.due = r.due.Add(deliveryGap)
	e.clock.At(r.due, func(time.Time) { e.couriers.do(func(ctx context.Context) { e.attempt(ctx, r) }) })
}

// giveUp ends the delivery of a receipt; mu held.
func (e *Exchange) giveUp(r *receipt, why string) {
	if r.deliveredAt != nil || r.givenUp {
		return
	}
	r.givenUp = true
	r.lastError = why
	if r.file.epoch == e.epoch {
		e.counts.ReceiptsPending--
		e.counts.ReceiptsGivenUp++
	}
}

// post makes one SOAP call.
func (e *Exchange) post(ctx context.Context, r *receipt) error {
	e.mu.Lock()
	tx := e.transmitters[r.file.tx.fiscalID] // the address may have changed since reception
	data := r.data
	e.mu.Unlock()
	if tx == nil || tx.client == nil {
		return errNoCallback
	}
	op, _ := sdi.OperationFor(r.tipo)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return tx.client.Notifica(ctx, op, sdi.FileSdI{IdentificativoSdI: r.id, NomeFile: r.name, File: data})
}

// delivered notes that a receipt arrived.
func (e *Exchange) delivered(r *receipt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.attempts++
	now := e.clock.Now()
	if r.deliveredAt == nil && r.file.epoch == e.epoch {
		e.counts.ReceiptsDelivered++
		if r.givenUp { // a resend got through after all
			e.counts.ReceiptsGivenUp--
		} else {
			e.counts.ReceiptsPending--
		}
	}
	r.givenUp = false
	r.deliveredAt = &now
	r.lastError = ""
	if r.file.late {
		e.release(r.file)
	}
}
