"""etcd's messages, declared in a descriptor pool of guestlist's own, and the calls that carry them.

In: the tables below. Out: the protobuf class of each message by its name (`MESSAGES`), and the
calls by theirs (`Method`). No generated code, so any version of protobuf from 4.21 on will do; a
private pool, so that other clients of etcd in the same process can declare the same names. Fields
that guestlist never uses are left out: protobuf skips them.

A field is written `name:type=number`. `*` repeats it, `?` puts it into the message's one oneof.
Enumerations are declared as int32, which is the same on the wire.

Source: etcd api/etcdserverpb/rpc.proto, api/mvccpb/kv.proto, api/authpb/auth.proto.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "guestlist.etcd"

_TABLE = """
Header          cluster_id:uint64=1 member_id:uint64=2 revision:int64=3 raft_term:uint64=4
KeyValue        key:bytes=1 create_revision:int64=2 mod_revision:int64=3 version:int64=4
                value:bytes=5 lease:int64=6
Event           type:int32=1 kv:KeyValue=2 prev_kv:KeyValue=3

RangeRequest    key:bytes=1 range_end:bytes=2 limit:int64=3 revision:int64=4 sort_order:int32=5
                sort_target:int32=6 serializable:bool=7 keys_only:bool=8 count_only:bool=9
RangeResponse   header:Header=1 *kvs:KeyValue=2 more:bool=3 count:int64=4
PutRequest      key:bytes=1 value:bytes=2 lease:int64=3
PutResponse     header:Header=1
DeleteRangeRequest  key:bytes=1 range_end:bytes=2
DeleteRangeResponse header:Header=1 deleted:int64=2
Compare         result:int32=1 target:int32=2 key:bytes=3 ?version:int64=4 ?create_revision:int64=5
                ?mod_revision:int64=6 ?value:bytes=7 ?lease:int64=8 range_end:bytes=64
RequestOp       ?request_range:RangeRequest=1 ?request_put:PutRequest=2
                ?request_delete_range:DeleteRangeRequest=3 ?request_txn:TxnRequest=4
ResponseOp      ?response_range:RangeResponse=1 ?response_put:PutResponse=2
                ?response_delete_range:DeleteRangeResponse=3 ?response_txn:TxnResponse=4
TxnRequest      *compare:Compare=1 *success:RequestOp=2 *failure:RequestOp=3
TxnResponse     header:Header=1 succeeded:bool=2 *responses:ResponseOp=3
CompactionRequest   revision:int64=1 physical:bool=2
CompactionResponse  header:Header=1

LeaseGrantRequest       TTL:int64=1 ID:int64=2
LeaseGrantResponse      header:Header=1 ID:int64=2 TTL:int64=3 error:string=4
LeaseRevokeRequest      ID:int64=1
LeaseRevokeResponse     header:Header=1
LeaseKeepAliveRequest   ID:int64=1
LeaseKeepAliveResponse  header:Header=1 ID:int64=2 TTL:int64=3
LeaseTimeToLiveRequest  ID:int64=1 keys:bool=2
LeaseTimeToLiveResponse header:Header=1 ID:int64=2 TTL:int64=3 grantedTTL:int64=4 *keys:bytes=5

WatchRequest    ?create_request:WatchCreateRequest=1 ?cancel_request:WatchCancelRequest=2
                ?progress_request:WatchProgressRequest=3
WatchCreateRequest  key:bytes=1 range_end:bytes=2 start_revision:int64=3 progress_notify:bool=4
                    *filters:int32=5 prev_kv:bool=6 watch_id:int64=7 fragment:bool=8
WatchCancelRequest  watch_id:int64=1
WatchProgressRequest
WatchResponse   header:Header=1 watch_id:int64=2 created:bool=3 canceled:bool=4
                compact_revision:int64=5 cancel_reason:string=6 fragment:bool=7 *events:Event=11

AuthEnableRequest
AuthEnableResponse      header:Header=1
AuthDisableRequest
AuthDisableResponse     header:Header=1
AuthStatusRequest
AuthStatusResponse      header:Header=1 enabled:bool=2 authRevision:uint64=3
AuthenticateRequest     name:string=1 password:string=2
AuthenticateResponse    header:Header=1 token:string=2
UserAddOptions          no_password:bool=1
AuthUserAddRequest      name:string=1 password:string=2 options:UserAddOptions=3
AuthUserAddResponse     header:Header=1
AuthUserGetRequest      name:string=1
AuthUserGetResponse     header:Header=1 *roles:string=2
AuthUserListRequest
AuthUserListResponse    header:Header=1 *users:string=2
AuthUserDeleteRequest   name:string=1
AuthUserDeleteResponse  header:Header=1
AuthUserChangePasswordRequest  name:string=1 password:string=2
AuthUserChangePasswordResponse header:Header=1
AuthUserGrantRoleRequest    user:string=1 role:string=2
AuthUserGrantRoleResponse   header:Header=1
AuthUserRevokeRoleRequest   name:string=1 role:string=2
AuthUserRevokeRoleResponse  header:Header=1
AuthRoleAddRequest      name:string=1
AuthRoleAddResponse     header:Header=1
AuthRoleGetRequest      role:string=1
AuthRoleGetResponse     header:Header=1 *perm:Permission=2
AuthRoleListRequest
AuthRoleListResponse    header:Header=1 *roles:string=2
AuthRoleDeleteRequest   role:string=1
AuthRoleDeleteResponse  header:Header=1
AuthRoleGrantPermissionRequest   name:string=1 perm:Permission=2
AuthRoleGrantPermissionResponse  header:Header=1
AuthRoleRevokePermissionRequest  role:string=1 key:bytes=2 range_end:bytes=3
AuthRoleRevokePermissionResponse header:Header=1
Permission      permType:int32=1 key:bytes=2 range_end:bytes=3

StatusRequest
StatusResponse  header:Header=1 version:string=2 dbSize:int64=3 leader:uint64=4 raftIndex:uint64=5
                raftTerm:uint64=6 raftAppliedIndex:uint64=7 *errors:string=8 dbSizeInUse:int64=9
                isLearner:bool=10
AlarmRequest    action:int32=1 memberID:uint64=2 alarm:int32=3
AlarmResponse   header:Header=1 *alarms:AlarmMember=2
AlarmMember     memberID:uint64=1 alarm:int32=2
DefragmentRequest
DefragmentResponse  header:Header=1
HashKVRequest   revision:int64=1
HashKVResponse  header:Header=1 hash:uint32=2 compact_revision:int64=3
MoveLeaderRequest   targetID:uint64=1
MoveLeaderResponse  header:Header=1
MemberListRequest
MemberListResponse  header:Header=1 *members:Member=2
Member          ID:uint64=1 name:string=2 *peerURLs:string=3 *clientURLs:string=4 isLearner:bool=5
"""

_READS = {
    "KV": "Range",
    "Lease": "LeaseTimeToLive LeaseKeepAlive",
    "Auth": "Authenticate AuthStatus UserGet UserList RoleGet RoleList",
    "Maintenance": "Status HashKV",
    "Cluster": "MemberList",
    "Watch": "Watch",
}
"""The calls of each service that change nothing, or whose repetition changes nothing more."""

_WRITES = {
    "KV": "Put DeleteRange Txn Compact",
    "Lease": "LeaseGrant LeaseRevoke",
    "Auth": (
        "AuthEnable AuthDisable UserAdd UserDelete UserChangePassword UserGrantRole UserRevokeRole "
        "RoleAdd RoleDelete RoleGrantPermission RoleRevokePermission"
    ),
    "Maintenance": "Alarm Defragment MoveLeader",
}
"""The calls that change something."""

_TYPES = {
    each.removeprefix("TYPE_").lower(): number
    for each, number in descriptor_pb2.FieldDescriptorProto.Type.items()
}


class EventType(IntEnum):
    """What an event is: mvccpb.Event.EventType."""

    PUT = 0
    DELETE = 1


class Alarm(IntEnum):
    """What an alarm says: etcdserverpb.AlarmType."""

    NONE = 0
    NOSPACE = 1
    CORRUPT = 2


class Method(NamedTuple):
    """One call of etcd's API: its path, the class of its request and that of its answer.

    `changes` says whether it writes: whether a request whose answer was lost may not be repeated.
    """

    path: str
    request: Any
    answer: Any
    changes: bool

    @property
    def name(self) -> str:
        """The last part of its path: "Range"."""
        return self.path.rpartition("/")[2]


def _declared() -> descriptor_pb2.FileDescriptorProto:
    """Return the messages of the table, as protobuf describes a file."""
    file = descriptor_pb2.FileDescriptorProto(
        name="guestlist/etcd.proto", package=_PACKAGE, syntax="proto3"
    )
    for word in _TABLE.split():
        if ":" not in word:
            message = file.message_type.add(name=word)
            continue
        name, _, rest = word.lstrip("*?").partition(":")
        kind, _, number = rest.partition("=")
        field = message.field.add(name=name, number=int(number), label=3 if word[0] == "*" else 1)
        if word[0] == "?":
            if not message.oneof_decl:
                message.oneof_decl.add(name="one")
            field.oneof_index = 0
        if kind in _TYPES:
            field.type = _TYPES[kind]
        else:
            field.type, field.type_name = _TYPES["message"], f".{_PACKAGE}.{kind}"
    return file


def _classes() -> dict[str, Any]:
    """Return the class of each message by its name."""
    file = _declared()
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    if hasattr(message_factory, "GetMessageClass"):  # protobuf 4.22
        made = message_factory.GetMessageClass
    else:
        made = message_factory.MessageFactory(pool).GetPrototype
    names = [each.name for each in file.message_type]
    return {name: made(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in names}


MESSAGES = _classes()
"""The class of each message by its name."""


def _methods() -> dict[str, Method]:
    found = {}
    for changes, table in ((False, _READS), (True, _WRITES)):
        for service, names in table.items():
            for name in names.split():
                stem = {"Compact": "Compaction"}.get(name, name)
                if service == "Auth" and not stem.startswith("Auth"):
                    stem = f"Auth{stem}"
                found[name] = Method(
                    f"/etcdserverpb.{service}/{name}",
                    MESSAGES[f"{stem}Request"],
                    MESSAGES[f"{stem}Response"],
                    changes,
                )
    return found


METHODS = _methods()
"""The calls by their names."""
