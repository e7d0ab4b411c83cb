"""服务器的错误，一个错误码一个类型。由 make openapi 写出，不要手改。"""

from scns_conductor.client.problem import Problem


class BadRequest(Problem):
    """状态码 400。"""


class Unauthorized(Problem):
    """状态码 401。"""


class Forbidden(Problem):
    """状态码 403。"""


class NotFound(Problem):
    """状态码 404。"""


class Conflict(Problem):
    """状态码 409。"""


class TooLarge(Problem):
    """状态码 413。"""


class Invalid(Problem):
    """状态码 422。"""


class TooMany(Problem):
    """状态码 429。"""


class Unavailable(Problem):
    """状态码 503。"""


class AccountCycle(Invalid):
    """account_cycle。"""


class AccountExists(Conflict):
    """account_exists。"""


class AccountNotFound(NotFound):
    """account_not_found。"""


class AccountOutOfReach(Forbidden):
    """account_out_of_reach。"""


class AccountRefused(Forbidden):
    """account_refused。"""


class AccountRoot(Conflict):
    """account_root。"""


class AccountUnknown(Invalid):
    """account_unknown。"""


class AccountingPolicy(Conflict):
    """accounting_policy。"""


class AdminRequired(Forbidden):
    """admin_required。"""


class AnswerTimeout(Problem):
    """answer_timeout。"""


class ArchiveNotFound(NotFound):
    """archive_not_found。"""


class ArrayInvalid(Invalid):
    """array_invalid。"""


class AssociationExists(Conflict):
    """association_exists。"""


class AssociationInUse(Conflict):
    """association_in_use。"""


class AssociationNotFound(NotFound):
    """association_not_found。"""


class AssociationOfAccount(Conflict):
    """association_of_account。"""


class AuditorReadsOnly(Forbidden):
    """auditor_reads_only。"""


class BatchTooLarge(Invalid):
    """batch_too_large。"""


class ClusterNotFound(NotFound):
    """cluster_not_found。"""


class CoreCountMismatch(Invalid):
    """core_count_mismatch。"""


class CronLineInvalid(Invalid):
    """cron_line_invalid。"""


class CrontabNotFound(NotFound):
    """crontab_not_found。"""


class CursorInvalid(Invalid):
    """cursor_invalid。"""


class DatabaseEncoding(Unavailable):
    """database_encoding。"""


class DatabaseRefused(Unavailable):
    """database_refused。"""


class DatabaseTooOld(Unavailable):
    """database_too_old。"""


class DatabaseUnavailable(Unavailable):
    """database_unavailable。"""


class DeadlinePast(Invalid):
    """deadline_past。"""


class DeadlineUnreachable(Invalid):
    """deadline_unreachable。"""


class DeliveryNotFound(NotFound):
    """delivery_not_found。"""


class DependencyCircular(Invalid):
    """dependency_circular。"""


class DependencySelf(Invalid):
    """dependency_self。"""


class DependencyUnknown(Invalid):
    """dependency_unknown。"""


class DeviceCodeUnknown(NotFound):
    """device_code_unknown。"""


class DeviceLoginOff(NotFound):
    """device_login_off。"""


class ExportExists(Conflict):
    """export_exists。"""


class FieldUnknown(Invalid):
    """field_unknown。"""


class FlagUnknown(Invalid):
    """flag_unknown。"""


class FlagsConflict(Invalid):
    """flags_conflict。"""


class GroupUnknown(Invalid):
    """group_unknown。"""


class HetJobComponent(Conflict):
    """het_job_component。"""


class HetJobInvalid(Invalid):
    """het_job_invalid。"""


class HistoryBusy(Conflict):
    """history_busy。"""


class HistoryLoaded(Conflict):
    """history_loaded。"""


class IdempotencyConflict(Conflict):
    """idempotency_conflict。"""


class IdempotencyKeyInvalid(Invalid):
    """idempotency_key_invalid。"""


class InternalError(Problem):
    """internal_error。"""


class InvalidField(Invalid):
    """invalid_field。"""


class InvalidSettings(Problem):
    """invalid_settings。"""


class JobArchived(Conflict):
    """job_archived。"""


class JobFinished(Conflict):
    """job_finished。"""


class JobNotFound(NotFound):
    """job_not_found。"""


class JobNotPending(Conflict):
    """job_not_pending。"""


class JobNotRunning(Conflict):
    """job_not_running。"""


class JobPending(Conflict):
    """job_pending。"""


class JobPreempted(Conflict):
    """job_preempted。"""


class JobRunning(Conflict):
    """job_running。"""


class JobTokenNotEnough(Forbidden):
    """job_token_not_enough。"""


class LicenseUnknown(Invalid):
    """license_unknown。"""


class LoginBusy(Unavailable):
    """login_busy。"""


class LoginDenied(Forbidden):
    """login_denied。"""


class LoginFailed(Unauthorized):
    """login_failed。"""


class LoginRefused(Forbidden):
    """login_refused。"""


class MalformedJson(BadRequest):
    """malformed_json。"""


class MonthNotFound(NotFound):
    """month_not_found。"""


class NodeAlive(Conflict):
    """node_alive。"""


class NodeBusy(Conflict):
    """node_busy。"""


class NodeCountInvalid(Invalid):
    """node_count_invalid。"""


class NodeExists(Conflict):
    """node_exists。"""


class NodeNotFound(NotFound):
    """node_not_found。"""


class NodePoweredDown(Conflict):
    """node_powered_down。"""


class NodeRebooting(Conflict):
    """node_rebooting。"""


class NodeReserved(Conflict):
    """node_reserved。"""


class NodeUnknown(Invalid):
    """node_unknown。"""


class NotAnAllocation(Conflict):
    """not_an_allocation。"""


class NotJobOwner(Forbidden):
    """not_job_owner。"""


class NotTriggerOwner(Forbidden):
    """not_trigger_owner。"""


class NotUpdatable(Invalid):
    """not_updatable。"""


class NothingChosen(Invalid):
    """nothing_chosen。"""


class NothingToUpdate(Invalid):
    """nothing_to_update。"""


class NotifyQueueFull(Unavailable):
    """notify_queue_full。"""


class OidcFlowInvalid(Unauthorized):
    """oidc_flow_invalid。"""


class OidcLoginOff(NotFound):
    """oidc_login_off。"""


class OidcRefused(Unauthorized):
    """oidc_refused。"""


class OidcTokenInvalid(Unauthorized):
    """oidc_token_invalid。"""


class OidcUnreachable(Unavailable):
    """oidc_unreachable。"""


class OidcUnusable(Unavailable):
    """oidc_unusable。"""


class OidcUserUnknown(Forbidden):
    """oidc_user_unknown。"""


class PamUnusable(Unavailable):
    """pam_unusable。"""


class PartitionExists(Conflict):
    """partition_exists。"""


class PartitionInUse(Conflict):
    """partition_in_use。"""


class PartitionNotFound(NotFound):
    """partition_not_found。"""


class PartitionUnavailable(Invalid):
    """partition_unavailable。"""


class PartitionUnknown(Invalid):
    """partition_unknown。"""


class PasswordExpired(Forbidden):
    """password_expired。"""


class PasswordLoginOff(NotFound):
    """password_login_off。"""


class PayloadTooLarge(TooLarge):
    """payload_too_large。"""


class PeerRefused(Forbidden):
    """peer_refused。"""


class PeerUnknown(Unauthorized):
    """peer_unknown。"""


class PlanChanged(Conflict):
    """plan_changed。"""


class PolicyBusy(Unavailable):
    """policy_busy。"""


class PolicyFailed(Problem):
    """policy_failed。"""


class PolicyRefused(Forbidden):
    """policy_refused。"""


class PowerUnconfigured(Conflict):
    """power_unconfigured。"""


class QosDefault(Conflict):
    """qos_default。"""


class QosExists(Conflict):
    """qos_exists。"""


class QosInUse(Conflict):
    """qos_in_use。"""


class QosNotFound(NotFound):
    """qos_not_found。"""


class QosPreemptLoop(Invalid):
    """qos_preempt_loop。"""


class QosUnknown(Invalid):
    """qos_unknown。"""


class RangeInvalid(Invalid):
    """range_invalid。"""


class RangeNotSatisfiable(Problem):
    """range_not_satisfiable。"""


class RateLimited(TooMany):
    """rate_limited。"""


class ReasonRequired(Invalid):
    """reason_required。"""


class RequestTimeout(Problem):
    """request_timeout。"""


class RequeueDisabled(Conflict):
    """requeue_disabled。"""


class ReservationActive(Conflict):
    """reservation_active。"""


class ReservationDenied(Forbidden):
    """reservation_denied。"""


class ReservationEmpty(Invalid):
    """reservation_empty。"""


class ReservationEndless(Invalid):
    """reservation_endless。"""


class ReservationExists(Conflict):
    """reservation_exists。"""


class ReservationInUse(Conflict):
    """reservation_in_use。"""


class ReservationLong(Invalid):
    """reservation_long。"""


class ReservationNodesBusy(Conflict):
    """reservation_nodes_busy。"""


class ReservationNodesMissing(Invalid):
    """reservation_nodes_missing。"""


class ReservationNotFound(NotFound):
    """reservation_not_found。"""


class ReservationOver(Invalid):
    """reservation_over。"""


class ReservationOverlaps(Conflict):
    """reservation_overlaps。"""


class ReservationTooLarge(Conflict):
    """reservation_too_large。"""


class ReservationUnknown(Invalid):
    """reservation_unknown。"""


class RoleConflict(Invalid):
    """role_conflict。"""


class RootJobsDisabled(Forbidden):
    """root_jobs_disabled。"""


class RowLocked(Unavailable):
    """row_locked。"""


class ScheduleInvalid(Invalid):
    """schedule_invalid。"""


class SchemaMismatch(Unavailable):
    """schema_mismatch。"""


class ScriptBlank(Invalid):
    """script_blank。"""


class ScriptHasNul(Invalid):
    """script_has_nul。"""


class ScriptTooLarge(TooLarge):
    """script_too_large。"""


class ServiceUnavailable(Unavailable):
    """service_unavailable。"""


class SignalUnknown(Invalid):
    """signal_unknown。"""


class SimulationsBusy(Unavailable):
    """simulations_busy。"""


class SimulationsOff(Conflict):
    """simulations_off。"""


class SortUnknown(Invalid):
    """sort_unknown。"""


class StandingField(Invalid):
    """standing_field。"""


class StateUnknown(Invalid):
    """state_unknown。"""


class StepBusy(Conflict):
    """step_busy。"""


class StepFinished(Conflict):
    """step_finished。"""


class StepNotFound(NotFound):
    """step_not_found。"""


class StepTooLarge(Invalid):
    """step_too_large。"""


class TasksTooMany(Invalid):
    """tasks_too_many。"""


class TasksTooScattered(Invalid):
    """tasks_too_scattered。"""


class TimeLimitExceeded(Invalid):
    """time_limit_exceeded。"""


class TimeMinimumExceedsLimit(Invalid):
    """time_minimum_exceeds_limit。"""


class TimezoneUnknown(Invalid):
    """timezone_unknown。"""


class TokenExpired(Unauthorized):
    """token_expired。"""


class TokenInvalid(Unauthorized):
    """token_invalid。"""


class TokenMissing(Unauthorized):
    """token_missing。"""


class TokenNotFound(NotFound):
    """token_not_found。"""


class TokenRevoked(Unauthorized):
    """token_revoked。"""


class TokenScope(Forbidden):
    """token_scope。"""


class TooManyBodies(Unavailable):
    """too_many_bodies。"""


class TooManyLogins(TooMany):
    """too_many_logins。"""


class TooManyQuestions(TooMany):
    """too_many_questions。"""


class TooManyRequests(TooMany):
    """too_many_requests。"""


class TooManyWebhooks(Conflict):
    """too_many_webhooks。"""


class TriggerJobMissing(Invalid):
    """trigger_job_missing。"""


class TriggerNotFound(NotFound):
    """trigger_not_found。"""


class TriggerTarget(Invalid):
    """trigger_target。"""


class UnknownField(Invalid):
    """unknown_field。"""


class UnsupportedMediaType(Problem):
    """unsupported_media_type。"""


class UserCodeUnknown(NotFound):
    """user_code_unknown。"""


class UserLookupSlow(Unavailable):
    """user_lookup_slow。"""


class UserNotFound(NotFound):
    """user_not_found。"""


class WckeyNotFound(NotFound):
    """wckey_not_found。"""


class WebhookInactive(Conflict):
    """webhook_inactive。"""


class WebhookNotFound(NotFound):
    """webhook_not_found。"""


class WebhooksOff(Conflict):
    """webhooks_off。"""


# 错误码 -> 类型；不认识的码（新版的服务器）用状态码的类型。
BY_CODE: dict[str, type[Problem]] = {
    "account_cycle": AccountCycle,
    "account_exists": AccountExists,
    "account_not_found": AccountNotFound,
    "account_out_of_reach": AccountOutOfReach,
    "account_refused": AccountRefused,
    "account_root": AccountRoot,
    "account_unknown": AccountUnknown,
    "accounting_policy": AccountingPolicy,
    "admin_required": AdminRequired,
    "answer_timeout": AnswerTimeout,
    "archive_not_found": ArchiveNotFound,
    "array_invalid": ArrayInvalid,
    "association_exists": AssociationExists,
    "association_in_use": AssociationInUse,
    "association_not_found": AssociationNotFound,
    "association_of_account": AssociationOfAccount,
    "auditor_reads_only": AuditorReadsOnly,
    "batch_too_large": BatchTooLarge,
    "cluster_not_found": ClusterNotFound,
    "conflict": Conflict,
    "core_count_mismatch": CoreCountMismatch,
    "cron_line_invalid": CronLineInvalid,
    "crontab_not_found": CrontabNotFound,
    "cursor_invalid": CursorInvalid,
    "database_encoding": DatabaseEncoding,
    "database_refused": DatabaseRefused,
    "database_too_old": DatabaseTooOld,
    "database_unavailable": DatabaseUnavailable,
    "deadline_past": DeadlinePast,
    "deadline_unreachable": DeadlineUnreachable,
    "delivery_not_found": DeliveryNotFound,
    "dependency_circular": DependencyCircular,
    "dependency_self": DependencySelf,
    "dependency_unknown": DependencyUnknown,
    "device_code_unknown": DeviceCodeUnknown,
    "device_login_off": DeviceLoginOff,
    "export_exists": ExportExists,
    "field_unknown": FieldUnknown,
    "flag_unknown": FlagUnknown,
    "flags_conflict": FlagsConflict,
    "forbidden": Forbidden,
    "group_unknown": GroupUnknown,
    "het_job_component": HetJobComponent,
    "het_job_invalid": HetJobInvalid,
    "history_busy": HistoryBusy,
    "history_loaded": HistoryLoaded,
    "idempotency_conflict": IdempotencyConflict,
    "idempotency_key_invalid": IdempotencyKeyInvalid,
    "internal_error": InternalError,
    "invalid_field": InvalidField,
    "invalid_settings": InvalidSettings,
    "job_archived": JobArchived,
    "job_finished": JobFinished,
    "job_not_found": JobNotFound,
    "job_not_pending": JobNotPending,
    "job_not_running": JobNotRunning,
    "job_pending": JobPending,
    "job_preempted": JobPreempted,
    "job_running": JobRunning,
    "job_token_not_enough": JobTokenNotEnough,
    "license_unknown": LicenseUnknown,
    "login_busy": LoginBusy,
    "login_denied": LoginDenied,
    "login_failed": LoginFailed,
    "login_refused": LoginRefused,
    "malformed_json": MalformedJson,
    "month_not_found": MonthNotFound,
    "node_alive": NodeAlive,
    "node_busy": NodeBusy,
    "node_count_invalid": NodeCountInvalid,
    "node_exists": NodeExists,
    "node_not_found": NodeNotFound,
    "node_powered_down": NodePoweredDown,
    "node_rebooting": NodeRebooting,
    "node_reserved": NodeReserved,
    "node_unknown": NodeUnknown,
    "not_an_allocation": NotAnAllocation,
    "not_found": NotFound,
    "not_job_owner": NotJobOwner,
    "not_trigger_owner": NotTriggerOwner,
    "not_updatable": NotUpdatable,
    "nothing_chosen": NothingChosen,
    "nothing_to_update": NothingToUpdate,
    "notify_queue_full": NotifyQueueFull,
    "oidc_flow_invalid": OidcFlowInvalid,
    "oidc_login_off": OidcLoginOff,
    "oidc_refused": OidcRefused,
    "oidc_token_invalid": OidcTokenInvalid,
    "oidc_unreachable": OidcUnreachable,
    "oidc_unusable": OidcUnusable,
    "oidc_user_unknown": OidcUserUnknown,
    "pam_unusable": PamUnusable,
    "partition_exists": PartitionExists,
    "partition_in_use": PartitionInUse,
    "partition_not_found": PartitionNotFound,
    "partition_unavailable": PartitionUnavailable,
    "partition_unknown": PartitionUnknown,
    "password_expired": PasswordExpired,
    "password_login_off": PasswordLoginOff,
    "payload_too_large": PayloadTooLarge,
    "peer_refused": PeerRefused,
    "peer_unknown": PeerUnknown,
    "plan_changed": PlanChanged,
    "policy_busy": PolicyBusy,
    "policy_failed": PolicyFailed,
    "policy_refused": PolicyRefused,
    "power_unconfigured": PowerUnconfigured,
    "qos_default": QosDefault,
    "qos_exists": QosExists,
    "qos_in_use": QosInUse,
    "qos_not_found": QosNotFound,
    "qos_preempt_loop": QosPreemptLoop,
    "qos_unknown": QosUnknown,
    "range_invalid": RangeInvalid,
    "range_not_satisfiable": RangeNotSatisfiable,
    "rate_limited": RateLimited,
    "reason_required": ReasonRequired,
    "request_timeout": RequestTimeout,
    "requeue_disabled": RequeueDisabled,
    "reservation_active": ReservationActive,
    "reservation_denied": ReservationDenied,
    "reservation_empty": ReservationEmpty,
    "reservation_endless": ReservationEndless,
    "reservation_exists": ReservationExists,
    "reservation_in_use": ReservationInUse,
    "reservation_long": ReservationLong,
    "reservation_nodes_busy": ReservationNodesBusy,
    "reservation_nodes_missing": ReservationNodesMissing,
    "reservation_not_found": ReservationNotFound,
    "reservation_over": ReservationOver,
    "reservation_overlaps": ReservationOverlaps,
    "reservation_too_large": ReservationTooLarge,
    "reservation_unknown": ReservationUnknown,
    "role_conflict": RoleConflict,
    "root_jobs_disabled": RootJobsDisabled,
    "row_locked": RowLocked,
    "schedule_invalid": ScheduleInvalid,
    "schema_mismatch": SchemaMismatch,
    "script_blank": ScriptBlank,
    "script_has_nul": ScriptHasNul,
    "script_too_large": ScriptTooLarge,
    "service_unavailable": ServiceUnavailable,
    "signal_unknown": SignalUnknown,
    "simulations_busy": SimulationsBusy,
    "simulations_off": SimulationsOff,
    "sort_unknown": SortUnknown,
    "standing_field": StandingField,
    "state_unknown": StateUnknown,
    "step_busy": StepBusy,
    "step_finished": StepFinished,
    "step_not_found": StepNotFound,
    "step_too_large": StepTooLarge,
    "tasks_too_many": TasksTooMany,
    "tasks_too_scattered": TasksTooScattered,
    "time_limit_exceeded": TimeLimitExceeded,
    "time_minimum_exceeds_limit": TimeMinimumExceedsLimit,
    "timezone_unknown": TimezoneUnknown,
    "token_expired": TokenExpired,
    "token_invalid": TokenInvalid,
    "token_missing": TokenMissing,
    "token_not_found": TokenNotFound,
    "token_revoked": TokenRevoked,
    "token_scope": TokenScope,
    "too_many_bodies": TooManyBodies,
    "too_many_logins": TooManyLogins,
    "too_many_questions": TooManyQuestions,
    "too_many_requests": TooManyRequests,
    "too_many_webhooks": TooManyWebhooks,
    "trigger_job_missing": TriggerJobMissing,
    "trigger_not_found": TriggerNotFound,
    "trigger_target": TriggerTarget,
    "unauthorized": Unauthorized,
    "unknown_field": UnknownField,
    "unsupported_media_type": UnsupportedMediaType,
    "user_code_unknown": UserCodeUnknown,
    "user_lookup_slow": UserLookupSlow,
    "user_not_found": UserNotFound,
    "wckey_not_found": WckeyNotFound,
    "webhook_inactive": WebhookInactive,
    "webhook_not_found": WebhookNotFound,
    "webhooks_off": WebhooksOff,
}
BY_STATUS: dict[int, type[Problem]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    429: TooMany,
    503: Unavailable,
}
