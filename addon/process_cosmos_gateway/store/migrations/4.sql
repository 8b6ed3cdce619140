-- outbox --------------------------------------------------------------------------------------------------------------

-- Names are escaped where they are joined in a pack. The same id with other bytes would be a conflict: a pack whose bytes
-- change is cut anew under another id.
DELETE FROM outbox_pack WHERE EXISTS (
  SELECT 1 FROM outbox_measurement JOIN outbox_series ON number = series
  WHERE sequence BETWEEN first AND last
    AND device || property GLOB '*[%/' || char(1) || '-' || char(31) || char(127) || ']*');

-- Order keys of different kinds never meet (order_keys.py). What waits gets the key of what follows it, or both would go
-- side by side. Parked alarms are of alerts, whose keys stay.
UPDATE outbox_alarm SET key = '#program/' || subject WHERE type NOT GLOB 'process_cosmos.*';
UPDATE outbox_change SET key = CASE
    WHEN type NOT GLOB 'process_cosmos.*' THEN '#program/' || subject
    WHEN type = 'process_cosmos.gap.v1' THEN '#gap'
    ELSE '#device/' || subject
  END
  WHERE type NOT GLOB 'process_cosmos.*' OR type = 'process_cosmos.gap.v1'
    OR kind = 'device' AND (subject GLOB '#*' OR length(subject) = 26 AND subject NOT GLOB '[^0-7]*'
      AND subject NOT GLOB '*[^0-9A-HJKMNP-TV-Z]*');
UPDATE outbox_rejected SET key = CASE
    WHEN type NOT GLOB 'process_cosmos.*' THEN '#program/' || subject
    WHEN type = 'process_cosmos.gap.v1' THEN '#gap'
    ELSE '#device/' || subject
  END
  WHERE type NOT GLOB 'process_cosmos.*' OR type = 'process_cosmos.gap.v1'
    OR kind = 'device' AND (subject GLOB '#*' OR length(subject) = 26 AND subject NOT GLOB '[^0-7]*'
      AND subject NOT GLOB '*[^0-9A-HJKMNP-TV-Z]*');
