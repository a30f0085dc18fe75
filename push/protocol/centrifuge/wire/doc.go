// Package wire is the messages of the Centrifuge client protocol, version 2, and
// its two codecs. It knows what is well formed; what a message means, and which
// ones make sense at a moment, is its user's to know.
//
// A frame is one WebSocket message. On a JSON connection it is one object or
// several, a line feed between them; on a Protobuf connection it is messages,
// each after its length as a varint. A client sends frames of [Command], a server
// frames of [Reply].
//
// The messages are those of client.proto, and their code is generated from it:
// make generate. A field of type bytes is any bytes under Protobuf. Under JSON it
// is a JSON value embedded in the object as it is, neither quoted nor in base64.
//
// Nothing in this package has state. Messages are read from hostile peers: each is
// read in time linear in its size, nested to a fixed depth at most, and takes
// nothing of the frame's memory with it.
package wire
