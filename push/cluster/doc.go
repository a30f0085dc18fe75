// Package cluster is what nodes tell each other beside publications: that they are there, and questions that go to all of
// them. It knows nodes and messages; what a question means is its Methods' business, and how messages travel the Bus's.
//
// Each node beats on the subject "beats", asks on "asks", and is answered on "nodes.UID", its own. A message is a JSON
// object whose first fields, v, kind and from, stay as they are in all versions: a node whose messages cannot be read is
// known all the same, and a question that all have to answer says so. Fields and kinds that are added are ignored by
// older nodes, and a method that one does not have is answered at once; so versions may be mixed while they are upgraded one
// after another.
//
// Nothing is sent for a client that connects, subscribes or goes: what all nodes have to know together is asked for when
// somebody wants to know it.
//
// A Cluster has one goroutine, and one for each question of others under way, of which there are Config.MaxServed at most.
// Cluster.mu guards the nodes and the map of questions, Question.mu what has come for one; mu may be taken first. No
// Method, and nothing of the Bus, is called under either.
package cluster
