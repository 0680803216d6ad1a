package rpc

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
)

// open are the services of gRPC itself; they say nothing about tenants.
var open = []string{
	"grpc.health.v1.Health",
	"grpc.reflection.v1.ServerReflection",
	"grpc.reflection.v1alpha.ServerReflection",
}

// accessRules reads the access option of each method of a service, by full
// method name. A method without the option, or with an empty one, is an error:
// nothing is open by omission.
func accessRules(desc *grpc.ServiceDesc) (map[string]*tenancyv1.Access, error) {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(desc.ServiceName))
	if err != nil {
		return nil, fmt.Errorf("rpc: service %s has no descriptor: %w", desc.ServiceName, err)
	}
	service, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("rpc: %s is not a service", desc.ServiceName)
	}
	rules, methods := map[string]*tenancyv1.Access{}, service.Methods()
	var errs []error
	for i := range methods.Len() {
		m := methods.Get(i)
		access, _ := proto.GetExtension(m.Options(), tenancyv1.E_Access).(*tenancyv1.Access)
		if proto.Size(access) == 0 {
			errs = append(errs, fmt.Errorf("rpc: method %s has no option (ceralacca.tenancy.v1.access): say in its .proto who may call it", m.FullName()))
			continue
		}
		rules["/"+desc.ServiceName+"/"+string(m.Name())] = access
	}
	return rules, errors.Join(errs...)
}

// allow compares the caller with the option of the method: who it is, then whether what it asks for may begin now.
func allow(access *tenancyv1.Access, c auth.Caller, known bool) error {
	if err := allowRole(access, c, known); err != nil {
		return err
	}
	bound := c.Role == auth.RoleTenant || c.Role == auth.RoleReseller
	if c.Suspension != nil && bound && !access.GetWhileSuspended() && !access.GetPublic() {
		return c.Suspension.Refusal()
	}
	return nil
}

func allowRole(access *tenancyv1.Access, c auth.Caller, known bool) error {
	if access.GetPublic() {
		return nil
	}
	if !known {
		return auth.Unauthenticated("CREDENTIAL_MISSING",
			"this method needs a caller: send metadata authorization: Bearer <API key>, or connect with a service certificate")
	}
	switch c.Role {
	case auth.RoleService:
		if slices.Contains(access.GetServices(), c.ID) {
			return nil
		}
		return fault.Denied("SERVICE_NOT_ALLOWED", "service %q may not call this method", c.ID)
	case auth.RoleOperator:
		if access.GetOperator() {
			return nil
		}
	case auth.RoleReseller:
		if access.GetReseller() {
			return needScope(access, c)
		}
	case auth.RoleTenant:
		if access.GetScope() != "" {
			return needScope(access, c)
		}
	}
	return fault.Denied("ROLE_NOT_ALLOWED", "callers of role %s may not call this method", c.Role)
}

// needScope: a method that names a scope asks it from resellers too; one that
// names none is open to all of the reseller's keys.
func needScope(access *tenancyv1.Access, c auth.Caller) error {
	if access.GetScope() == "" || c.Has(access.GetScope()) {
		return nil
	}
	return fault.Denied("SCOPE_MISSING", "this method needs scope %s; the credential has %s",
		access.GetScope(), strings.Join(append(c.Scopes, "no other"), ", "))
}

// checkNames refuses a request that names somebody else's resource. It looks
// at every string of the request and of the messages directly in it: a value
// that begins with tenants/ or resellers/ is a resource name wherever it
// stands, so a field added to a .proto later is covered without a thought.
//
// A tenant may name its own tenant and reseller only; a reseller its own
// reseller only (which tenants are its own is known to the tenancy service,
// which checks it). Operators and services are not bound to one.
func checkNames(msg proto.Message, c auth.Caller) error {
	if c.Role != auth.RoleTenant && c.Role != auth.RoleReseller {
		return nil
	}
	return checkMessage(msg.ProtoReflect(), "", c, 0)
}

func checkMessage(msg protoreflect.Message, path string, c auth.Caller, depth int) error {
	var err error
	msg.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := path + string(fd.Name())
		switch {
		case fd.IsMap():
		case fd.Kind() == protoreflect.StringKind && fd.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = checkName(fmt.Sprintf("%s[%d]", at, i), v.List().Get(i).String(), c)
			}
		case fd.Kind() == protoreflect.StringKind:
			err = checkName(at, v.String(), c)
		case fd.Kind() == protoreflect.MessageKind && fd.IsList() && depth < 2:
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = checkMessage(v.List().Get(i).Message(), fmt.Sprintf("%s[%d].", at, i), c, depth+1)
			}
		case fd.Kind() == protoreflect.MessageKind && depth < 2:
			err = checkMessage(v.Message(), at+".", c, depth+1)
		}
		return err == nil
	})
	return err
}

func checkName(path, value string, c auth.Caller) error {
	collection, rest, ok := strings.Cut(value, "/")
	if !ok {
		return nil
	}
	id, _, _ := strings.Cut(rest, "/")
	switch {
	case collection == "tenants" && c.Role == auth.RoleTenant && id != c.Tenant,
		collection == "resellers" && id != c.Reseller,
		collection == "operators":
		return fault.Denied("FOREIGN_RESOURCE", "%s: %s/%s is not yours", path, collection, id).
			WithField(path, "FOREIGN_RESOURCE", "belongs to somebody else")
	}
	return nil
}
