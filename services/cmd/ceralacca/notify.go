package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
)

func (c *cli) notifications() (notificationv1.NotificationServiceClient, string, error) {
	tenant, err := c.tenantName()
	if err != nil {
		return nil, "", err
	}
	conn, err := c.dial()
	return notificationv1.NewNotificationServiceClient(conn), tenant, err
}

func (c *cli) webhookCommand() *cobra.Command {
	var types []string
	add := verb("add URL", "Have events posted to a URL; the secret is shown once", args("URL"), func(ctx context.Context, given []string) error {
		api, tenant, err := c.notifications()
		if err != nil {
			return err
		}
		w, err := api.CreateWebhookEndpoint(ctx, &notificationv1.CreateWebhookEndpointRequest{
			Parent: tenant, WebhookEndpoint: &notificationv1.WebhookEndpoint{Url: given[0], EventTypes: types}, RequestId: uuid.NewString(),
		})
		if err != nil {
			return err
		}
		return c.print(w, func() { c.fields("name", w.GetName(), "url", w.GetUrl(), "secret", w.GetSecret()) })
	})
	add.Flags().StringSliceVar(&types, "events", nil, "only these types, such as invoice.delivered or invoice.*; all when empty")
	list := c.lister(verb("ls", "List webhook endpoints", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.notifications()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*notificationv1.ListWebhookEndpointsResponse, error) {
			return api.ListWebhookEndpoints(ctx, &notificationv1.ListWebhookEndpointsRequest{Parent: tenant, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, w := range page.GetWebhookEndpoints() {
				state := "enabled"
				if w.GetDisabled() {
					state = strings.TrimSpace("disabled " + w.GetDisableReason())
				}
				rows = append(rows, []string{w.GetName(), w.GetUrl(), state, strings.Join(w.GetEventTypes(), " ")})
			}
			c.table([]string{"WEBHOOK", "URL", "STATE", "EVENTS"}, rows)
		})
	}))
	remove := verb("rm WEBHOOK", "Remove a webhook endpoint", args("WEBHOOK"), func(ctx context.Context, given []string) error {
		name, err := c.within("webhookEndpoints", given[0])
		if err != nil {
			return err
		}
		api, _, err := c.notifications()
		if err != nil {
			return err
		}
		empty, err := api.DeleteWebhookEndpoint(ctx, &notificationv1.DeleteWebhookEndpointRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(empty, func() { fmt.Fprintln(c.out, "removed:", name) })
	})
	rotate := verb("rotate WEBHOOK", "Make a new secret; the old one holds for 24 hours more", args("WEBHOOK"), func(ctx context.Context, given []string) error {
		name, err := c.within("webhookEndpoints", given[0])
		if err != nil {
			return err
		}
		api, _, err := c.notifications()
		if err != nil {
			return err
		}
		w, err := api.RotateWebhookSecret(ctx, &notificationv1.RotateWebhookSecretRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(w, func() { c.fields("name", w.GetName(), "secret", w.GetSecret()) })
	})
	return group("webhook", "Webhook endpoints", add, list, remove, rotate,
		c.webhookSwitch("enable", "Deliver to an endpoint again that was disabled", false),
		c.webhookSwitch("disable", "Deliver nothing to an endpoint until it is enabled", true))
}

func (c *cli) mailCommand() *cobra.Command {
	var types []string
	var language string
	add := verb("add ADDRESS", "Have events told by e-mail", args("ADDRESS"), func(ctx context.Context, given []string) error {
		api, tenant, err := c.notifications()
		if err != nil {
			return err
		}
		s, err := api.CreateEmailSubscription(ctx, &notificationv1.CreateEmailSubscriptionRequest{
			Parent: tenant, EmailSubscription: &notificationv1.EmailSubscription{Address: given[0], EventTypes: types, Language: language}, RequestId: uuid.NewString(),
		})
		if err != nil {
			return err
		}
		return c.print(s, func() { c.fields("name", s.GetName(), "address", s.GetAddress()) })
	})
	add.Flags().StringSliceVar(&types, "events", nil, "only these types; all when empty")
	add.Flags().StringVar(&language, "language", "it", "it or en")
	list := c.lister(verb("ls", "List addresses", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.notifications()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*notificationv1.ListEmailSubscriptionsResponse, error) {
			return api.ListEmailSubscriptions(ctx, &notificationv1.ListEmailSubscriptionsRequest{Parent: tenant, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, s := range page.GetEmailSubscriptions() {
				rows = append(rows, []string{s.GetName(), s.GetAddress(), s.GetLanguage(), strings.Join(s.GetEventTypes(), " ")})
			}
			c.table([]string{"SUBSCRIPTION", "ADDRESS", "LANGUAGE", "EVENTS"}, rows)
		})
	}))
	remove := verb("rm SUBSCRIPTION", "Remove an address", args("SUBSCRIPTION"), func(ctx context.Context, given []string) error {
		name, err := c.within("emailSubscriptions", given[0])
		if err != nil {
			return err
		}
		api, _, err := c.notifications()
		if err != nil {
			return err
		}
		empty, err := api.DeleteEmailSubscription(ctx, &notificationv1.DeleteEmailSubscriptionRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(empty, func() { fmt.Fprintln(c.out, "removed:", name) })
	})
	return group("mail", "E-mail subscriptions", add, list, remove)
}

func (c *cli) deliveryCommand() *cobra.Command {
	var invoice, target, state string
	list := c.lister(verb("ls", "Deliveries of events, newest first", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.notifications()
		if err != nil {
			return err
		}
		invoice, err = c.fullInvoiceName(ctx, invoice)
		if err != nil {
			return err
		}
		wanted, err := enumOf("state", "DELIVERY_STATE_", state, notificationv1.DeliveryState_value)
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*notificationv1.ListDeliveriesResponse, error) {
			return api.ListDeliveries(ctx, &notificationv1.ListDeliveriesRequest{
				Parent: tenant, Invoice: invoice, Target: target, State: notificationv1.DeliveryState(wanted), PageToken: token, PageSize: size,
			})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, d := range page.GetDeliveries() {
				answer := ""
				if n := len(d.GetAttempts()); n > 0 {
					answer = outcome(d.GetAttempts()[n-1])
				}
				rows = append(rows, []string{last(d.GetName()), d.GetEventType(), enum("DELIVERY_STATE_", d.GetState()), fmt.Sprint(len(d.GetAttempts())), answer, when(d.GetNextAttemptTime())})
			}
			c.table([]string{"DELIVERY", "EVENT", "STATE", "ATTEMPTS", "LAST ANSWER", "NEXT"}, rows)
		})
	}))
	list.Flags().StringVar(&invoice, "invoice", "", "only of this invoice")
	list.Flags().StringVar(&state, "state", "", "only in this state: pending, delivered or failed")
	list.Flags().StringVar(&target, "target", "", "only to this endpoint or subscription (full name)")
	again := verb("redeliver DELIVERY", "Deliver the same event again, with the same webhook-id", args("DELIVERY"), func(ctx context.Context, given []string) error {
		name, err := c.within("deliveries", given[0])
		if err != nil {
			return err
		}
		api, _, err := c.notifications()
		if err != nil {
			return err
		}
		d, err := api.RedeliverDelivery(ctx, &notificationv1.RedeliverDeliveryRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(d, func() { fmt.Fprintln(c.out, "will be delivered again:", d.GetName()) })
	})
	get := verb("get DELIVERY", "Show a delivery with its attempts", args("DELIVERY"), func(ctx context.Context, given []string) error {
		name, err := c.within("deliveries", given[0])
		if err != nil {
			return err
		}
		api, _, err := c.notifications()
		if err != nil {
			return err
		}
		d, err := api.GetDelivery(ctx, &notificationv1.GetDeliveryRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(d, func() { c.showDelivery(d) })
	})
	return group("delivery", "What customers were told", list, get, again)
}

func (c *cli) showDelivery(d *notificationv1.Delivery) {
	c.fields("name", d.GetName(), "to", d.GetTarget(), "event", d.GetEvent(), "type", d.GetEventType(), "invoice", d.GetInvoice(),
		"state", enum("DELIVERY_STATE_", d.GetState()), "next attempt", when(d.GetNextAttemptTime()), "created", when(d.GetCreateTime()))
	if len(d.GetAttempts()) == 0 {
		return
	}
	var rows [][]string
	for _, a := range d.GetAttempts() {
		rows = append(rows, []string{when(a.GetTime()), fmt.Sprintf("%d ms", a.GetDurationMs()), outcome(a)})
	}
	c.table([]string{"TRIED", "TOOK", "ANSWER"}, rows)
}

// outcome is the code that the other side answered, if it did, and what went wrong.
func outcome(a *notificationv1.Attempt) string {
	if a.GetStatusCode() == 0 {
		return a.GetError()
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", a.GetStatusCode(), a.GetError()))
}

// webhookSwitch enables or disables an endpoint.
func (c *cli) webhookSwitch(use, short string, disabled bool) *cobra.Command {
	return verb(use+" WEBHOOK", short, args("WEBHOOK"), func(ctx context.Context, given []string) error {
		name, err := c.within("webhookEndpoints", given[0])
		if err != nil {
			return err
		}
		api, _, err := c.notifications()
		if err != nil {
			return err
		}
		w, err := api.GetWebhookEndpoint(ctx, &notificationv1.GetWebhookEndpointRequest{Name: name})
		if err != nil {
			return err
		}
		w.Disabled = disabled
		w, err = api.UpdateWebhookEndpoint(ctx, &notificationv1.UpdateWebhookEndpointRequest{
			WebhookEndpoint: w, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"disabled"}},
		})
		if err != nil {
			return err
		}
		return c.print(w, func() { fmt.Fprintf(c.out, "%sd: %s\n", use, w.GetName()) })
	})
}
