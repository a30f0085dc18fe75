package wire

import (
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// schema is what the readers need to know of a message, taken from client.proto
// as it was compiled in.
type schema struct {
	byName   map[string]*field
	byNumber []*field // nil where no field has the number
}

type field struct {
	desc    protoreflect.FieldDescriptor
	message *schema // of the field's or its elements' type, or nil
	value   *field  // of a map's values, or nil
}

// schemas returns the schemas of the two messages that frames are made of. They
// can't be built any sooner: the descriptors are there once the generated code is
// initialised.
var schemas = sync.OnceValue(func() (roots struct{ command, reply *schema }) {
	all := map[protoreflect.FullName]*schema{}
	roots.command = schemaOf(all, emptyCommand.ProtoReflect().Descriptor())
	roots.reply = schemaOf(all, emptyReply.ProtoReflect().Descriptor())
	return roots
})

// schemaFor returns the schema of m.
func schemaFor(m any) *schema {
	if _, isReply := m.(*Reply); isReply {
		return schemas().reply
	}
	return schemas().command
}

// schemaOf returns the schema of one message, and adds it and those of the
// messages within to all.
func schemaOf(all map[protoreflect.FullName]*schema, desc protoreflect.MessageDescriptor) *schema {
	if s := all[desc.FullName()]; s != nil {
		return s
	}
	s := &schema{byName: map[string]*field{}}
	all[desc.FullName()] = s // before its fields, one of which may be of its own type
	for i := range desc.Fields().Len() {
		f := fieldOf(all, desc.Fields().Get(i))
		s.byName[string(f.desc.Name())] = f
		for len(s.byNumber) <= int(f.desc.Number()) {
			s.byNumber = append(s.byNumber, nil)
		}
		s.byNumber[f.desc.Number()] = f
	}
	return s
}

func fieldOf(all map[protoreflect.FullName]*schema, desc protoreflect.FieldDescriptor) *field {
	f := &field{desc: desc}
	if desc.Message() != nil {
		f.message = schemaOf(all, desc.Message())
	}
	if desc.IsMap() {
		f.value = fieldOf(all, desc.MapValue())
	}
	return f
}
