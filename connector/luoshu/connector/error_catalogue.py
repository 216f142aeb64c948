"""The table of every reason a caller can meet: status, what happened, what to do next.

See ``luoshu.connector.errors`` for the rules; this module is the data, one entry a reason, in
English and Chinese. It is long because it is a table.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Language = Literal["en", "zh"]

_GUARD_REASON = re.compile(r"GUARD_[A-Z0-9]+(_[A-Z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Text:
    """One sentence in both languages."""

    en: str
    zh: str

    def in_language(self, language: Language) -> str:
        """Returns the sentence in ``language``."""
        return self.zh if language == "zh" else self.en


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """What the catalogue says about one reason.

    Attributes:
        reason: UPPER_SNAKE name, stable across releases.
        status: Name of the gRPC status code, such as ``NOT_FOUND``.
        what: What happened, when the raiser has nothing more precise.
        next_step: What the caller can do about it.
        sealed: The text is constant; a raiser's own words are not shown.
    """

    reason: str
    status: str
    what: Text
    next_step: Text
    sealed: bool = False


_ROWS: Final[tuple[tuple[str, str, str, str, str, str], ...]] = (
    # Malformed: the caller's message is wrong and repeating it won't help.
    (
        "MALFORMED_MESSAGE",
        "INVALID_ARGUMENT",
        "The message is malformed.",
        "Correct the field that is named and send it again.",
        "消息格式不正确。",
        "请更正所指出的字段后重新发送。",
    ),
    (
        "MESSAGE_TOO_LARGE",
        "INVALID_ARGUMENT",
        "The message is larger than this node accepts.",
        "Send a smaller message; the limits are in docs/configuration.md.",
        "消息超过本节点允许的大小。",
        "请缩小消息后重新发送；上限见 docs/configuration.md。",
    ),
    (
        "SCHEMA_UNKNOWN",
        "INVALID_ARGUMENT",
        "The document has a schema version that this node doesn't know.",
        "Update this node, or send a version that it knows.",
        "文档的模式版本未知。",
        "请升级本节点，或改用其已知的版本。",
    ),
    (
        "QUERY_INVALID",
        "INVALID_ARGUMENT",
        "The SQL doesn't parse or names something that doesn't exist.",
        "Correct the SQL; `luoshu catalog show` lists the columns.",
        "SQL 无法解析，或引用了不存在的对象。",
        "请更正 SQL；可用 `luoshu catalog show` 查看列。",
    ),
    (
        "PRODUCT_FILE_INVALID",
        "INVALID_ARGUMENT",
        "The product file is not valid.",
        "Correct the key that is named; the product file's keys are in docs/product-file.md.",
        "产品文件无效。",
        "请更正所指出的键；键的说明见 docs/product-file.md。",
    ),
    (
        "PREPARATION_FAILED",
        "INVALID_ARGUMENT",
        "The data can't be prepared as the product file says.",
        "Correct the data or the product file, then prepare the product again.",
        "数据无法按产品文件的说明进行准备。",
        "请更正数据或产品文件，然后重新准备该产品。",
    ),
    # Who is calling.
    (
        "CREDENTIAL_MISSING",
        "UNAUTHENTICATED",
        "No credential was presented.",
        "Call with a client certificate: a user's comes from `luoshu user add`, "
        "a node's from `luoshu node enrol`.",
        "未出示凭证。",
        "请使用客户端证书调用：用户证书由 `luoshu user add` 签发，"
        "节点证书由 `luoshu node enrol` 取得。",
    ),
    (
        "CREDENTIAL_EXPIRED",
        "UNAUTHENTICATED",
        "The credential is outside its period of validity.",
        "Check the machine's clock, then ask the issuer for a new credential.",
        "凭证不在有效期内。",
        "请检查系统时钟，然后向签发方申请新的凭证。",
    ),
    (
        "CREDENTIAL_REVOKED",
        "UNAUTHENTICATED",
        "The credential has been revoked.",
        "Ask the operator of the space, or your organisation's administrator, why.",
        "凭证已被吊销。",
        "请向空间运营者或本机构管理员了解原因。",
    ),
    (
        "CREDENTIAL_INVALID",
        "UNAUTHENTICATED",
        "The credential doesn't verify.",
        "Enrol again, or ask for the issuer's current credential files.",
        "凭证验证失败。",
        "请重新登记，或索取签发方当前的凭证文件。",
    ),
    (
        "WRONG_SPACE",
        "UNAUTHENTICATED",
        "The credential belongs to another data space.",
        "Enrol in this space first, or connect to a node of your own.",
        "凭证属于另一个数据空间。",
        "请先在本空间登记，或连接您所在空间的节点。",
    ),
    (
        "TLS_TOO_OLD",
        "UNAUTHENTICATED",
        "The connection doesn't use TLS 1.3.",
        "Connect with a client that speaks TLS 1.3.",
        "连接未使用 TLS 1.3。",
        "请使用支持 TLS 1.3 的客户端连接。",
    ),
    # Allowed or not.
    (
        "ROLE_REQUIRED",
        "PERMISSION_DENIED",
        "The caller doesn't have the role that this call needs.",
        "Ask the node's administrator for the role, or call as someone who has it.",
        "调用者不具备此调用所需的角色。",
        "请向节点管理员申请该角色，或以具备该角色的身份调用。",
    ),
    (
        "TEMPLATE_REQUIRED",
        "PERMISSION_DENIED",
        "The contract allows its query templates only.",
        "Choose one with `luoshu query --template`; `luoshu contract show` lists them.",
        "该合约仅允许使用其查询模板。",
        "请用 `luoshu query --template` 选择模板；可用 `luoshu contract show` 查看。",
    ),
    (
        "TEMPLATE_DENIED",
        "PERMISSION_DENIED",
        "The contract has no such query template, or doesn't allow these values in it.",
        "Correct the name or the value; `luoshu contract show` lists templates and values.",
        "合约中没有该查询模板，或不允许这些取值。",
        "请更正模板名称或取值；可用 `luoshu contract show` 查看模板及允许的取值。",
    ),
    (
        "MEASUREMENT_DENIED",
        "PERMISSION_DENIED",
        "The contract asks for other code than the node's workers run.",
        "Negotiate with this node's measurement, or ask the holder to run a version that is named; "
        "`luoshu doctor` shows it.",
        "合约要求的代码与该节点工作进程运行的代码不同。",
        "请运行合约指定的版本，或以该节点的度量值重新协商；可用 `luoshu doctor` 查看。",
    ),
    (
        "POLICY_DENIED",
        "PERMISSION_DENIED",
        "The contract's terms don't permit this use.",
        "Compare the request with `luoshu contract show`; negotiate other terms if you need them.",
        "合约条款不允许此次使用。",
        "请对照 `luoshu contract show` 检查请求；如有需要，请协商新的条款。",
    ),
    (
        "REQUEST_SIGNATURE_INVALID",
        "PERMISSION_DENIED",
        "The request isn't signed by a key that the organisation enrolled for this user.",
        "Sign with the profile's request key, or enrol it by `luoshu user add`.",
        "请求未由本机构为该用户登记的密钥签名。",
        "请使用用户配置中的请求密钥签名，或用 `luoshu user add` 登记密钥。",
    ),
    (
        "SIGNATURE_INVALID",
        "PERMISSION_DENIED",
        "A signature doesn't verify, or the document is of another kind than expected.",
        "Sign the document again with the current key, and send it unchanged.",
        "签名验证失败，或文档类型与预期不符。",
        "请使用当前密钥重新签名，并原样发送文档。",
    ),
    (
        "REQUEST_TIME_SKEW",
        "FAILED_PRECONDITION",
        "The request's time is too far from this node's time.",
        "Synchronise the clock, then make the request again.",
        "请求时间与本节点时间相差过大。",
        "请校准系统时钟，然后重新提交请求。",
    ),
    (
        "USES_EXHAUSTED",
        "RESOURCE_EXHAUSTED",
        "The contract's number of uses is exhausted.",
        "Negotiate a new contract with `luoshu contract request`.",
        "合约约定的使用次数已用完。",
        "请用 `luoshu contract request` 协商新的合约。",
    ),
    (
        "PRIVACY_BUDGET_EXHAUSTED",
        "RESOURCE_EXHAUSTED",
        "The privacy budget of the people in this data doesn't pay for this computation.",
        "Ask the holder whether its budget can be raised; what was spent is never given back.",
        "所涉人群的隐私预算不足以支付此次计算。",
        "请询问数据持有方能否提高预算；已消耗的预算不会退还。",
    ),
    (
        "PRIVACY_QUOTA_EXHAUSTED",
        "RESOURCE_EXHAUSTED",
        "The contract's privacy quota doesn't pay for this computation.",
        "Negotiate a contract with a larger quota by `luoshu contract request`.",
        "合约的隐私配额不足以支付此次计算。",
        "请用 `luoshu contract request` 协商配额更高的合约。",
    ),
    (
        "RATE_LIMITED",
        "RESOURCE_EXHAUSTED",
        "Too many requests.",
        "Wait for the time given in retry_after_seconds, then try again.",
        "请求过于频繁。",
        "请等待 retry_after_seconds 所示的秒数后重试。",
    ),
    # Things and their state.
    (
        "NOT_FOUND",
        "NOT_FOUND",
        "There is nothing by that id that you may see.",
        "Check the id; `luoshu catalog search` and `luoshu contract list` show what you may see.",
        "没有您可见的、具有该标识的对象。",
        "请检查标识；`luoshu catalog search` 与 `luoshu contract list` 列出您可见的对象。",
    ),
    (
        "ALREADY_EXISTS",
        "ALREADY_EXISTS",
        "Something by that id exists already, with other content.",
        "Choose another id, or publish a new version.",
        "该标识已存在，且内容不同。",
        "请更换标识，或发布新版本。",
    ),
    (
        "CATALOG_ENTRY_INVALID",
        "FAILED_PRECONDITION",
        "The catalog entry doesn't verify against what is known of its issuer.",
        "Publish it again from the holder's node with `luoshu product publish`.",
        "目录条目与其发布者的已知信息不符。",
        "请在持有方节点上用 `luoshu product publish` 重新发布。",
    ),
    (
        "CATALOG_VERSION_CONFLICT",
        "ABORTED",
        "The catalog holds another version than the one this entry builds on.",
        "Read the current entry and publish the next version.",
        "目录中的版本与该条目所依据的版本不同。",
        "请读取当前条目后发布下一版本。",
    ),
    (
        "CONTRACT_NOT_ACTIVE",
        "FAILED_PRECONDITION",
        "The agreement is not active.",
        "See its state with `luoshu contract show`; a suspended one can be resumed by the "
        "holder, an ended one needs a new contract.",
        "合约当前未生效。",
        "请用 `luoshu contract show` 查看状态；被中止的合约可由持有方恢复，已结束的需重新签约。",
    ),
    (
        "CONTRACT_STALE_HEAD",
        "ABORTED",
        "The contract has moved on since this event was made.",
        "Fetch the contract's events, check them, and sign again on the current head.",
        "合约在该事件生成之后已有新进展。",
        "请获取合约事件并核对，然后基于当前头部重新签名。",
    ),
    (
        "CONTRACT_EVENT_REPLAYED",
        "FAILED_PRECONDITION",
        "The contract holds this event already.",
        "Nothing is lost: read the contract's state with `luoshu contract show`.",
        "合约中已有该事件。",
        "未丢失任何内容：请用 `luoshu contract show` 查看合约状态。",
    ),
    (
        "CONTRACT_WRONG_PARTY",
        "PERMISSION_DENIED",
        "The author may not make this contract event.",
        "Let the party whose turn it is act; `luoshu contract show` names it.",
        "该事件的作者无权作出此操作。",
        "请由轮到的一方操作；`luoshu contract show` 会指明是哪一方。",
    ),
    (
        "CONTRACT_SIGNATURE_INVALID",
        "PERMISSION_DENIED",
        "The contract event isn't signed by a key of the party it names.",
        "Sign with the events key of the membership credential.",
        "合约事件未由其所称一方的密钥签名。",
        "请使用成员凭证中的事件密钥签名。",
    ),
    (
        "CONTRACT_TRANSITION_INVALID",
        "FAILED_PRECONDITION",
        "The contract's state doesn't allow this step.",
        "See the state and the possible steps with `luoshu contract show`.",
        "合约当前状态不允许此步骤。",
        "请用 `luoshu contract show` 查看状态与可行的步骤。",
    ),
    (
        "CONTRACT_TIME_SKEW",
        "FAILED_PRECONDITION",
        "The event's time is too far from this node's time.",
        "Synchronise the clock, then sign the event again.",
        "事件时间与本节点时间相差过大。",
        "请校准系统时钟，然后重新签署事件。",
    ),
    (
        "TERMS_INVALID",
        "INVALID_ARGUMENT",
        "The terms hold something that this node can't decide on.",
        "Use only the operands, operators and actions of docs/contracts.md.",
        "条款中有本节点无法判定的内容。",
        "请只使用 docs/contracts.md 所列的操作数、运算符与动作。",
    ),
    (
        "SCHEMA_TOO_NEW",
        "FAILED_PRECONDITION",
        "The node's data was written by a newer version of luoshu.",
        "Install that version again, or restore the backup that it made.",
        "节点数据由更新版本的 luoshu 写入。",
        "请重新安装该版本，或恢复其升级前的备份。",
    ),
    (
        "CONFIGURATION_INVALID",
        "FAILED_PRECONDITION",
        "The node's configuration is not valid.",
        "Correct the key that is named; docs/configuration.md lists all.",
        "节点配置无效。",
        "请更正所指出的键；docs/configuration.md 列出了全部配置项。",
    ),
    # A query that ran.
    (
        "QUERY_FAILED",
        "INTERNAL",
        "The query failed while it ran.",
        "Simplify it or narrow its filters; the data holder can look up the cause.",
        "查询在运行时失败。",
        "请简化查询或缩小过滤条件；数据持有方可以查明原因。",
    ),
    (
        "RESULT_GONE",
        "FAILED_PRECONDITION",
        "The result was released, but this node no longer keeps it.",
        "Submit a new request to compute it again; the receipt of the old one stays valid.",
        "结果已经发布，但本节点不再保存。",
        "请提交新的请求重新计算；原有收据仍然有效。",
    ),
    (
        "CANCELLED",
        "CANCELLED",
        "The computation was cancelled.",
        "Submit a new request to run it again; the use stays debited.",
        "计算已被取消。",
        "如需再次运行，请提交新的请求；已扣减的使用次数不予退还。",
    ),
    (
        "DEADLINE_EXCEEDED",
        "DEADLINE_EXCEEDED",
        "The call didn't end before its deadline.",
        "Ask again by the same request id: the outcome is kept and nothing is debited twice.",
        "调用未在期限内结束。",
        "请用同一请求标识再次查询：结果会保留，且不会重复扣减。",
    ),
    # Something this node needs is not there: fail closed.
    (
        "POLICY_UNAVAILABLE",
        "UNAVAILABLE",
        "The policy engine gave no decision, so nothing was computed.",
        "Try again; if it stays so, the node's administrator runs `luoshu doctor`.",
        "策略引擎未给出判定，因此未执行任何计算。",
        "请重试；如仍如此，请节点管理员运行 `luoshu doctor`。",
    ),
    (
        "LOG_UNAVAILABLE",
        "UNAVAILABLE",
        "The usage log can't be written, so nothing was done.",
        "The node's administrator checks disk space and `luoshu doctor`; then try again.",
        "使用日志无法写入，因此未执行任何操作。",
        "请节点管理员检查磁盘空间并运行 `luoshu doctor`，然后重试。",
    ),
    (
        "HISTORY_CORRUPT",
        "UNAVAILABLE",
        "The holder's record of earlier releases doesn't verify, so nothing more is computed over "
        "this data.",
        "The holder's administrator runs `luoshu doctor` on the node, which names the file, and "
        "puts it back from a backup; see docs/usage-log.md.",
        "持有方的既往发布记录验证失败，因此不再对该数据执行计算。",
        "请持有方管理员对节点运行 `luoshu doctor` 查明文件，并从备份中恢复；见 docs/usage-log.md。",
    ),
    (
        "SANDBOX_UNAVAILABLE",
        "UNAVAILABLE",
        "This node can't isolate a computation, so it computes nothing.",
        "The node's administrator runs `luoshu doctor`, which names the remedy.",
        "本节点无法隔离计算，因此不执行任何计算。",
        "请节点管理员运行 `luoshu doctor`，其中给出解决办法。",
    ),
    (
        "STATUS_LIST_STALE",
        "UNAVAILABLE",
        "The space's status list is too old to tell who is still a member.",
        "Check that the operator's node is reachable; the list is fetched again by itself.",
        "空间的状态列表已过期，无法确认成员资格。",
        "请确认运营者节点可达；列表会自动重新获取。",
    ),
    (
        "CLOCK_BEHIND_LOG",
        "UNAVAILABLE",
        "This node's clock is behind its last log entry, so it decides nothing.",
        "Set the clock (`timedatectl`); the node goes on by itself once time has caught up.",
        "本节点时钟早于最后一条日志，因此不作任何判定。",
        "请校准时钟（`timedatectl`）；时间追上后节点会自行恢复。",
    ),
    (
        "PEER_UNREACHABLE",
        "UNAVAILABLE",
        "The other participant's node can't be reached.",
        "Check its address and your own certificate with `luoshu doctor`, then try again.",
        "无法连接对方节点。",
        "请用 `luoshu doctor` 检查其地址与您自己的证书，然后重试。",
    ),
    (
        "SHUTTING_DOWN",
        "UNAVAILABLE",
        "The node is shutting down.",
        "Try again when it is back; a request id that was accepted keeps its outcome.",
        "节点正在关闭。",
        "请在其恢复后重试；已受理的请求标识会保留结果。",
    ),
    # Proof failed.
    (
        "LOG_CORRUPT",
        "DATA_LOSS",
        "The usage log doesn't verify.",
        "Stop the node, keep the directory as evidence, and run `luoshu log verify` on it.",
        "使用日志验证失败。",
        "请停止节点，保留目录作为证据，并对其运行 `luoshu log verify`。",
    ),
    (
        "PROOF_INVALID",
        "DATA_LOSS",
        "A receipt or proof doesn't verify.",
        "Don't use the result; keep the receipt as evidence and ask the other participant.",
        "收据或证明验证失败。",
        "请勿使用该结果；请保留收据作为证据并联系对方。",
    ),
    (
        "UNIMPLEMENTED",
        "UNIMPLEMENTED",
        "This node doesn't offer that call.",
        "See the node's roles with `luoshu node status`, and the README for what works.",
        "本节点不提供该调用。",
        "请用 `luoshu node status` 查看节点角色；可用功能见 README。",
    ),
    (
        "INTERNAL",
        "INTERNAL",
        "Something went wrong inside the node.",
        "Give the incident id to the node's administrator, who finds it in the operational log.",
        "节点内部出现错误。",
        "请将事件编号告知节点管理员，以便在运行日志中查找。",
    ),
)

_SEALED: Final = frozenset({"QUERY_FAILED", "INTERNAL", "NOT_FOUND"})

CATALOGUE: Final[Mapping[str, CatalogueEntry]] = MappingProxyType(
    {
        reason: CatalogueEntry(
            reason, status, Text(what, what_zh), Text(step, step_zh), reason in _SEALED
        )
        for reason, status, what, step, what_zh, step_zh in _ROWS
    }
)
"""Every reason but the guard's, by name."""

_GUARD_STATUS: Final = "PERMISSION_DENIED"
_GUARD_WHAT: Final = Text(
    "The query guard doesn't permit this query.", "查询保护规则不允许该查询。"
)
_GUARD_STEP: Final = Text(
    "Ask for aggregates over the columns that `luoshu catalog show` lists, used as it says there.",
    "请按 `luoshu catalog show` 所列的列及其允许的用途编写聚合查询。",
)


def lookup(reason: str) -> CatalogueEntry | None:
    """Returns what the catalogue says of ``reason``, or None when it doesn't know it.

    A well-formed ``GUARD_…`` code gets the guard's entry under its own name.
    """
    entry = CATALOGUE.get(reason)
    if entry is None and _GUARD_REASON.fullmatch(reason):
        return CatalogueEntry(reason, _GUARD_STATUS, _GUARD_WHAT, _GUARD_STEP)
    return entry
